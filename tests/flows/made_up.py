"""Made-up evaluations and pages: no training, milliseconds each."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit, logit

from flows.report.content import FailureRow, LabelBalance, ModelSection, ReportContent, RungRow
from models.explain import Importance, Shift
from models.families import FAMILIES, ModelSpec
from models.results import Evaluation, GateResult, Verdict
from pipelines.drift.evidently_report import DriftSummary, FeatureDrift, LeftOut
from pipelines.features.twelve import FEATURES
from pipelines.performance import measure
from pipelines.settings import Family, load_settings

PERFORMANCE = load_settings().performance
ROWS = 600
SLOPE, INTERCEPT = 1.6, -0.2
"""Of the sigmoid calibration of every made-up probability."""

NAN = float("nan")


def spec_of(family: Family, target: str) -> ModelSpec:
    """What the family's model of this name learns."""
    return FAMILIES[family].model(target)


def evaluation(family: Family, target: str, seed: int, lift: float, rows: int = ROWS) -> tuple[Evaluation, np.ndarray]:
    """An evaluation of `rows` test trades, and what its predictions are held against."""
    spec = spec_of(family, target)
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=rows)
    raw = expit(signal * 0.5 - 0.4)
    prediction = expit(SLOPE * logit(raw) + INTERCEPT) if spec.probability else signal
    won = (rng.random(rows) < expit(lift * signal - 0.4)).astype(float)
    labels = won if spec.probability else lift * signal + rng.normal(size=rows)
    money = np.random.default_rng(11)
    pnl = np.where(money.random(ROWS) < 0.39, 560.0, -380.0)[ROWS - rows :] + np.random.default_rng(12).normal(0, 20, ROWS)[ROWS - rows :]
    keep = prediction >= np.quantile(prediction, 0.4)
    classifier = spec.kind == "classification"
    middle = 0.5 + lift / 6 if classifier else lift / 4
    result = Evaluation(
        target=target,
        family=family,
        kind=spec.kind,
        label=spec.label,
        judged_on=spec.judged_on,
        parameters={"trees": 150, "max_depth": 5} if family != "linear" else {"c": 0.1, "balanced": False},
        details={"calibration_slope": SLOPE, "calibration_intercept": INTERCEPT} if spec.probability else {},
        fold_scores=tuple((middle + rng.normal(0, 0.012, 5)).tolist()),
        fold_train_scores=tuple((middle + 0.03 + rng.normal(0, 0.006, 5)).tolist()),
        train_score=middle + 0.025,
        validation_score=middle - 0.004,
        test_score=middle - 0.01,
        metrics={"accuracy": 0.6123, "brier": 0.2314, "log_loss": 0.6543},
        calibration={"brier_raw": 0.2419, "brier": 0.2314, "calibration_error_raw": 0.051, "calibration_error": 0.013}
        if spec.probability
        else {},
        baselines={"accuracy": 0.61, "brier": 0.2379},
        coefficients={name: float(value) for name, value in zip(FEATURES, rng.normal(0, 0.2, 12), strict=True)}
        if family == "linear"
        else {},
        oof_rows=np.arange(2000),
        oof_folds=np.repeat(np.arange(5), 400),
        oof_predictions=rng.random(2000),
        oof_multipliers=np.ones(2000),
        train_rows=np.arange(2100),
        test_rows=np.arange(2400, 2400 + rows),
        test_predictions=prediction,
        train_quantiles=np.linspace(0, 1, 101),
        rows={"all": 3000, "train": 2100, "validation": 300, "test": rows},
        test_net_pnl=pnl,
        test_multipliers=keep.astype(float),
        baseline_performance=measure(pnl, np.ones(rows, dtype=bool), 1e7, PERFORMANCE),
        policy_performance=measure(pnl * keep, keep, 1e7, PERFORMANCE),
    )
    return result, labels


def verdict(family: str, target: str, *, passed: bool, rival: str | None = None) -> Verdict:
    """A verdict; one that refuses has a gate that could not be measured, and one without a rival is of the simplest family."""
    gain = 0.12 if passed else -0.03
    ladder = (
        GateResult("ladder", True, 0.0, "the simplest family", "the linear family has nobody to beat")
        if rival is None
        else GateResult(
            "ladder",
            passed,
            gain,
            ">= 0.05",
            f"out of fold the mean skill goes from 0.0400 to 0.0448, {gain:+.0%}",
            {"rival": rival, "measured": "skill", "new": [0.0448], "old": [0.04], "lower": 0.001},
        )
    )
    results = (
        GateResult("enough_trades", True, 3000.0, ">= 1000", "3000 clean trades are enough to promote"),
        GateResult("skill", passed, 0.013 if passed else -0.006, "> 0", "lower end of the AUC's lead over no skill"),
        GateResult("train_test_gap", True, 0.035, "<= 0.10", "train and test score lie close"),
        GateResult("fold_deviation", passed, 0.012 if passed else None, "<= 0.05", f"fold scores of {target} vary little"),
        ladder,
    )
    return Verdict(target, family, results)


def importance(seed: int, score_name: str) -> Importance:
    """Twelve inputs, one of which does harm when it is there."""
    rng = np.random.default_rng(seed)
    permutation = np.sort(rng.random(12))[::-1] * 0.03 - 0.001
    shap = rng.random(12) * 0.1
    share = np.maximum(permutation, 0.0) / np.maximum(permutation, 0.0).sum()
    return Importance(
        inputs=tuple(FEATURES),
        permutation=tuple(permutation.tolist()),
        permutation_std=tuple((rng.random(12) * 0.004).tolist()),
        permutation_share=tuple(share.tolist()),
        shap=tuple(shap.tolist()),
        shap_share=tuple((shap / shap.sum()).tolist()),
        shap_method="exact tree",
        score_name=score_name,
        rows=200,
    )


TIMES = np.datetime64("2025-08-04T14:00", "ns") + np.cumsum(np.random.default_rng(5).integers(20, 240, ROWS)).astype("timedelta64[m]")


def section(family: Family, target: str, *, seed: int = 0, lift: float = 0.1, passed: bool = False, rows: int = ROWS) -> ModelSection:
    """One model with everything that a page can show."""
    made, labels = evaluation(family, target, seed, lift, rows)
    return ModelSection(
        evaluation=made,
        verdict=verdict(family, target, passed=passed, rival=None if family == "linear" else f"linear/{target}"),
        outcome=f"version 3 of amiral-{target.replace('_', '-')}" if passed else "kept as run 1a2b3c4d, not registered",
        title=FAMILIES[family].title,
        version="3" if passed else None,
        labels=labels,
        times=TIMES[ROWS - rows :],
        importance=importance(seed, made.score_name),
        shifts=(
            Shift("vwap_trend_signal", 0.21, 0.09, 1.33, True, "more than doubled"),
            Shift("level_proximity", 0.08, 0.09, -0.11, False, ""),
        ),
        previous="2",
    )


def all_models(*, rows_of_exit_timing: int = ROWS - 37) -> tuple[ModelSection, ...]:
    """The twenty models of the five families; the forest's profitability is the one candidate."""
    return tuple(
        section(
            spec.name,
            model.target,
            seed=number,
            lift=0.5 if (candidate := (spec.name, model.target) == ("forest", "profitability")) else 0.05 + 0.02 * (number % 7),
            passed=candidate,
            rows=rows_of_exit_timing if model.judged_on == "exit_timing" else ROWS,
        )
        for number, (spec, model) in enumerate((spec, model) for spec in FAMILIES.values() for model in spec.models)
    )


def rungs_of(models: Sequence[ModelSection]) -> tuple[RungRow, ...]:
    """One trained family per title."""
    counts = {
        model.evaluation.family: (model.title, sum(m.evaluation.family == model.evaluation.family for m in models)) for model in models
    }
    return tuple(RungRow(family, title, "trained", f"{count} models, no candidate") for family, (title, count) in counts.items())


def full_content(**changes: Any) -> ReportContent:
    """A run with all twenty models and nothing missing."""
    models = all_models()
    return dataclasses.replace(sample_content(models=models, ladder=rungs_of(models)), **changes)


def sample_content(**changes: Any) -> ReportContent:
    """A run with three models, one of them a candidate, one family that waits and one that failed in part."""
    models = (
        section("linear", "signal_quality", seed=0, lift=0.05),
        section("linear", "profitability", seed=1, lift=0.5, passed=True),
        section("linear", "signal_strength", seed=2, lift=0.1),
    )
    content = ReportContent(
        run_id="2026-01-01T02-00-00-replay",
        created=dt.datetime(2026, 1, 1, 2, 0, tzinfo=dt.UTC),
        git_commit="c0af4980123456789",
        source="bars of recorded/es: 116,088 five-minute bars, 2024-05-12 to 2025-12-31",
        simulated=False,
        source_notes=("NQ present on 100 % of the bars", "options: six chains, older than 600 s on almost every signal, read as missing"),
        replay={
            **{"mode": "collect", "scale": "atr", "bars": 116088, "trades": 3000, "win_rate": 0.392, "average_r": -0.041},
            **{"ambiguous_bars": 87, "ambiguous_share": 0.029, "exit_reasons": {"TP": 905, "SL": 1650, "SESSION_CLOSE": 445}},
        },
        ingest={"files": 1, "records": 6000, "duplicates": 0, "quarantined": 0, "trades": 3000},
        quality={
            "grade": "good",
            "checks": [
                {
                    "name": "missing values",
                    "passed": True,
                    "value": 0.062,
                    "limit": "<= 0.10",
                    "reason": "options are stale on most signals",
                },
                {"name": "duplicates", "passed": True, "value": 0.0, "limit": "<= 0.05", "reason": "no trade is there twice"},
                {"name": "constant features", "passed": False, "value": 1.0, "limit": "0", "reason": "bid_ask_spread never changes"},
            ],
        },
        dataset={"rows": 3000, "first": "2024-05-21T14:05:00Z", "last": "2025-12-31T20:10:00Z", "hash": "9f" * 32},
        labels=(
            LabelBalance("signal_quality", "+1 R before -1 R", 1210, 3000),
            LabelBalance("profitability", "net PnL above zero", 1176, 3000),
        ),
        ladder=(RungRow("linear", "Linear", "trained", "3 models, 1 candidate"), RungRow("lstm", "LSTM", "not yet", WAITING)),
        models=models,
        drift=DriftSummary(
            features=(FeatureDrift("market_volatility", 0.31, True, 0.0, 0.01), FeatureDrift("recent_momentum", 0.02, False, 0.0, 0.0)),
            left_out=(LeftOut("bid_ask_spread", "constant (0.25) in the reference and the current part; no scale to measure with"),),
            share_drifted=0.5,
            flagged=True,
            rows_reference=2100,
            rows_current=600,
            threshold=0.1,
            max_share=0.3,
        ),
        drift_page="drift.html",
        thresholds={"min_trades": 500, "min_test_auc": 0.55},
    )
    return dataclasses.replace(content, **changes)


WAITING = "LSTM: 3,912 of 5,000 clean trades"


def few_trades() -> ReportContent:
    """A run that trained nothing."""
    return ReportContent(
        run_id="few",
        created=dt.datetime(2026, 1, 1, 2, 0, tzinfo=dt.UTC),
        git_commit="unknown",
        source="snapshots of data/raw",
        simulated=False,
        ladder=(
            RungRow("linear", "Linear", "not yet", "Linear: 312 of 500 clean trades, 188 missing"),
            RungRow("forest", "Random forest", "not yet", "Random forest: 312 of 1,000 clean trades, 688 missing"),
        ),
    )


BROKEN = (
    FailureRow("xgboost", "XGBoost", "profitability", "all 410 training trades of a fold have profitability = 0"),
    FailureRow("lstm", "LSTM", None, "train.lstm.device is cuda, and there is no GPU"),
)
