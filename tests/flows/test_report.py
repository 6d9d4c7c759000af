"""The report: self-contained, honest, safe against hostile text, the same bytes every time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.report.content import LabelBalance, ModelSection, ReportContent, headline
from flows.report.page import as_json, render, write_report
from models.results import Evaluation, GateResult, Kind, Verdict
from pipelines.drift.evidently_report import DriftSummary, FeatureDrift, LeftOut
from pipelines.performance import measure
from pipelines.settings import load_settings

SETTINGS = load_settings().report
PERFORMANCE = load_settings().performance
HOSTILE = "<script>alert('x')</script><img src=http://evil.example/a.png onerror=alert(1)>&\"'"
NAMES = ("vwap_trend_signal", "sierra_pattern_strength", "dow_trend_regime", "gamma_levels_proximity", "level_proximity")


def evaluation(target: str, kind: Kind, seed: int, lift: float, rows: int = 600) -> tuple[Evaluation, np.ndarray]:
    """An evaluation of `rows` test trades and their labels."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=rows)
    prediction = 1.0 / (1.0 + np.exp(-(signal * 0.5 - 0.4)))
    chance = 1.0 / (1.0 + np.exp(-(lift * signal - 0.4)))
    labels = (rng.random(rows) < chance).astype(float) if kind == "classification" else lift * signal + rng.normal(size=rows)
    money = np.random.default_rng(11)
    pnl = np.where(money.random(rows) < 0.39, 560.0, -380.0) + money.normal(0, 20, rows)
    keep = prediction >= np.quantile(prediction, 0.4)
    middle = 0.5 + lift / 6 if kind == "classification" else lift / 4
    result = Evaluation(
        target=target,
        family="logistic" if kind == "classification" else "ridge",
        kind=kind,
        fold_scores=tuple((middle + rng.normal(0, 0.012, 5)).tolist()),
        fold_train_scores=tuple((middle + 0.03 + rng.normal(0, 0.006, 5)).tolist()),
        train_score=middle + 0.025,
        validation_score=middle - 0.004,
        test_score=middle - 0.01,
        metrics={"accuracy": 0.6123, "brier": 0.2314, "log_loss": 0.6543},
        baselines={"accuracy": 0.61, "brier": 0.2379},
        coefficients={name: float(value) for name, value in zip(NAMES, rng.normal(0, 0.2, len(NAMES)), strict=True)},
        oof_rows=np.arange(2000),
        oof_predictions=rng.random(2000),
        test_rows=np.arange(2400, 2400 + rows),
        test_predictions=prediction,
        train_quantiles=np.linspace(0, 1, 101),
        rows={"all": 3000, "train": 2100, "validation": 300, "test": rows},
        judged_on=target,
        train_rows=np.arange(2100),
        oof_folds=np.repeat(np.arange(5), 400),
        test_net_pnl=pnl,
        test_multipliers=keep.astype(float),
        baseline_performance=measure(pnl, np.ones(rows, dtype=bool), 1e7, PERFORMANCE),
        policy_performance=measure(pnl * keep, keep, 1e7, PERFORMANCE),
    )
    return result, labels


def gates(target: str, passed: bool) -> Verdict:
    """A verdict with one gate that could not be measured when it refuses."""
    results = (
        GateResult("enough_trades", True, 3000.0, ">= 1000", "3000 clean trades are enough to promote"),
        GateResult("skill", passed, 0.013 if passed else -0.006, "> 0", "lower end of the AUC's lead over no skill"),
        GateResult("train_test_gap", True, 0.035, "<= 0.10", "train and test score lie close"),
        GateResult("fold_deviation", passed, 0.012 if passed else None, "<= 0.05", f"fold scores of {target} vary little"),
    )
    return Verdict(target, "logistic", results)


def sample_content(**changes: Any) -> ReportContent:
    """A run with three models, one of them a candidate."""
    rng = np.random.default_rng(5)
    rows = 600
    minutes = np.cumsum(rng.integers(20, 240, rows))
    times = np.datetime64("2025-08-04T14:00", "s") + minutes.astype("timedelta64[m]")
    models = []
    for seed, (target, kind, lift, passed) in enumerate(
        [
            ("signal_quality", "classification", 0.05, False),
            ("profitability", "classification", 0.5, True),
            ("signal_strength", "regression", 0.1, False),
        ]
    ):
        made, labels = evaluation(target, kind, seed, lift)  # type: ignore[arg-type]
        outcome = "registered as amiral-profitability version 3, alias candidate" if passed else "kept as a run, not registered"
        models.append(ModelSection(made, gates(target, passed), outcome, "3" if passed else None, labels))
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
        models=tuple(models),
        test_times=times,
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


def few_trades() -> ReportContent:
    """A run that trained nothing."""
    return ReportContent(
        run_id="few",
        created=dt.datetime(2026, 1, 1, 2, 0, tzinfo=dt.UTC),
        git_commit="unknown",
        source="snapshots of data/raw",
        simulated=False,
        not_trained="312 clean trades; 500 are needed, 188 are missing.",
    )


class _Page(HTMLParser):
    """Collects what a browser would load, run and show."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on"):
                self.loads.append(f"{tag} {name}")
            elif name in ("src", "href", "xlink:href", "data", "action") and not (value or "").startswith("#"):
                self.loads.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shown(page: str) -> str:
    """The words on the page, with white space folded."""
    return re.sub(r"\s+", " ", unescape(" ".join(_Page(page).text)))


def test_the_page_needs_nothing_but_itself() -> None:
    page = render(sample_content(), SETTINGS)
    parsed = _Page(page)
    assert parsed.loads == ["drift.html"]
    assert not {"script", "link", "iframe", "img", "object"} & set(parsed.tags)
    assert not re.search(r"url\(\s*['\"]?(?!#)", page)
    assert "@import" not in page
    assert len(page) < 1_500_000


def test_every_gate_is_there_with_value_limit_and_reason() -> None:
    content = sample_content()
    text = shown(render(content, SETTINGS))
    for model in content.models:
        assert model.outcome in text
        for gate in model.verdict.gates:
            assert gate.reason in text
            assert gate.limit in text
    assert text.count("✗ fail") >= 4


def test_the_figures_are_drawn_for_every_model() -> None:
    page = render(sample_content(), SETTINGS)
    # Folds, calibration and coefficients of three models, and one equity figure.
    assert _Page(page).tags.count("svg") == 10
    assert page.count("no skill (0.5)") == 2
    assert page.count("no skill (0)") == 1


def test_the_first_line_says_what_was_promoted_or_why_nothing() -> None:
    promoted = headline(sample_content())
    assert promoted.title == "1 of 3 models passed every gate: profitability is a candidate."
    assert "signal quality: refused by 2 of 4 gates (skill, fold deviation)" in promoted.details
    refused = headline(sample_content(models=tuple(m for m in sample_content().models if not m.verdict.candidate)))
    assert refused.title == "No candidate: 2 models trained, none passed every gate."
    nothing = headline(few_trades())
    assert nothing.title == "Nothing was trained."
    assert "188 are missing" in nothing.details[0]
    for head in (refused, nothing):
        assert "The bot trades on with its own rules, unchanged." in head.details


def test_hostile_text_is_shown_and_not_run() -> None:
    hostile = sample_content(
        source=HOSTILE,
        source_notes=(HOSTILE,),
        replay={HOSTILE: HOSTILE},
        quality={"grade": HOSTILE, "checks": [{"name": HOSTILE, "passed": False, "value": HOSTILE, "limit": HOSTILE, "reason": HOSTILE}]},
        labels=(LabelBalance(HOSTILE, HOSTILE, 1, 2),),
        thresholds={HOSTILE: HOSTILE},
        not_trained=HOSTILE,
    )
    model = hostile.models[0]
    evaluation_ = dataclasses.replace(model.evaluation, coefficients={HOSTILE: 1.0, "b": 0.5}, target=HOSTILE)
    verdict = Verdict(HOSTILE, HOSTILE, (GateResult(HOSTILE, False, 1.0, HOSTILE, HOSTILE),))
    hostile = dataclasses.replace(hostile, models=(dataclasses.replace(model, evaluation=evaluation_, verdict=verdict, outcome=HOSTILE),))
    parsed = _Page(render(hostile, SETTINGS))
    assert not {"script", "img"} & set(parsed.tags)
    assert parsed.loads == ["drift.html"]
    assert "alert('x')" in " ".join(parsed.text)


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_report(sample_content(), tmp_path / "a", SETTINGS)
    second = write_report(sample_content(), tmp_path / "b", SETTINGS)
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a" / "report.json").read_bytes() == (tmp_path / "b" / "report.json").read_bytes()


def test_a_run_without_models_has_a_page_that_says_why() -> None:
    text = shown(render(few_trades(), SETTINGS))
    assert "312 clean trades; 500 are needed, 188 are missing." in text
    assert "svg" not in _Page(render(few_trades(), SETTINGS)).tags


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_trades_are_named_as_such(simulated: bool) -> None:
    assert ("Simulated data." in shown(render(sample_content(simulated=simulated), SETTINGS))) == simulated


def test_numbers_that_do_not_exist_leave_no_nan_on_the_page() -> None:
    content = sample_content()
    model = content.models[0]
    nan = float("nan")
    broken = dataclasses.replace(
        model.evaluation, fold_scores=(nan,) * 5, validation_score=nan, metrics={"roc_auc": nan}, coefficients={}, test_score=nan
    )
    text = shown(render(dataclasses.replace(content, models=(dataclasses.replace(model, evaluation=broken, labels=None),)), SETTINGS))
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_the_json_beside_the_page_holds_the_decision() -> None:
    content = json.loads(json.dumps(as_json(sample_content()), allow_nan=False))
    assert [model["candidate"] for model in content["models"]] == [False, True, False]
    assert content["models"][0]["gates"][3]["value"] is None
    assert content["headline"]["tone"] == "promoted"
    assert content["drift"]["features"][0]["name"] == "market_volatility"
