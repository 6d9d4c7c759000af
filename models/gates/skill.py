"""Whether the model tells good trades from bad ones better than no model, beyond what luck can do.

Two samples must say so independently: the pooled out-of-fold predictions (many trades) and the
test part (never seen). In each, the lower bound of a one-sided block-bootstrap interval over
trading days must lie above no skill. A third gate asks for a useful size of the skill (DOMAIN E.6).

Knowing the label is not yet worth money. Without any edge, a trade that the session's end will
close has other odds of a small profit than one with a whole day before it, and a model learns
that from the clock; its ROC-AUC is honestly above 0.5, and it earns nothing. So a fourth gate asks
that higher scores also bring a higher mean of realised R, in both samples.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.gates.bootstrap import bootstrap_scores, draw_days
from models.metrics import score
from models.results import Evaluation, GateResult, Kind
from pipelines.dataset import Dataset
from pipelines.settings import Gates

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

NO_SKILL: dict[Kind, float] = {"classification": 0.5, "regression": 0.0}
"""Score of a model that knows nothing."""

MONEY = "realized_r"


def skill_out_of_fold(evaluation: Evaluation, dataset: Dataset, settings: Gates, rng: np.random.Generator) -> GateResult:
    """Skill over no skill on the pooled out-of-fold predictions."""
    found = _interval(evaluation.kind, evaluation.judged_on, evaluation.oof_rows, _pooled(evaluation), dataset, settings, rng)
    return _skill("out_of_fold_skill", "out of fold", evaluation, found)


def skill_on_test(evaluation: Evaluation, dataset: Dataset, settings: Gates, rng: np.random.Generator) -> GateResult:
    """Skill over no skill on the test part."""
    found = _interval(evaluation.kind, evaluation.judged_on, evaluation.test_rows, evaluation.test_predictions, dataset, settings, rng)
    return _skill("test_skill", "on the test part", evaluation, found)


def score_on_test(evaluation: Evaluation, settings: Gates) -> GateResult:
    """Point score on the test part against the smallest useful one."""
    limit = settings.min_test_auc if evaluation.kind == "classification" else settings.min_test_correlation
    value = evaluation.test_score
    passed = bool(value >= limit)
    relation = "reaches" if passed else "is below"
    reason = f"{evaluation.score_name} {value:.3f} on {evaluation.rows['test']} test trades {relation} {limit:g}"
    return GateResult("test_score", passed, value, f">= {limit:g}", reason, {"trades": evaluation.rows["test"]})


def money_skill(evaluation: Evaluation, dataset: Dataset, settings: Gates, rng: np.random.Generator) -> GateResult:
    """Whether a higher score brings a higher mean of realised R, out of fold and on the test part.

    The value is the smaller of the two lower bounds of the correlation.
    """
    ranks = stats.rankdata(evaluation.test_predictions)
    folds = _interval("regression", MONEY, evaluation.oof_rows, _pooled(evaluation), dataset, settings, rng)
    test = _interval("regression", MONEY, evaluation.test_rows, ranks, dataset, settings, rng)
    lower = min(folds.lower, test.lower)
    passed = bool(lower > 0.0)
    reason = (
        f"higher scores {'bring' if passed else 'do not surely bring'} a higher realised R: correlation {folds.score:.3f} out of fold "
        f"(lower bound {folds.lower:.3f}) and {test.score:.3f} on the test part (lower bound {test.lower:.3f})"
    )
    return GateResult("money_skill", passed, lower, "> 0", reason, {"out_of_fold": asdict(folds), "test": asdict(test)})


@dataclass(frozen=True)
class _Interval:
    score: float
    lower: float
    upper: float
    confidence: float
    trades: int
    days: int
    samples: int


def _pooled(evaluation: Evaluation) -> Floats:
    """Ranks within the fold, 0 to 1: every fold has its own model, whose scores sit on their own level."""
    pooled = np.empty(len(evaluation.oof_rows))
    for fold in np.unique(evaluation.oof_folds):
        inside = evaluation.oof_folds == fold
        pooled[inside] = stats.rankdata(evaluation.oof_predictions[inside]) / (inside.sum() + 1.0)
    return pooled


def _interval(
    kind: Kind, judged_on: str, rows: Rows, predictions: Floats, dataset: Dataset, settings: Gates, rng: np.random.Generator
) -> _Interval:
    outcome = dataset.target(judged_on)[rows]
    days, day_index = np.unique(dataset.trading_days[rows], return_inverse=True)
    counts = draw_days(len(days), settings.bootstrap_samples, settings.bootstrap_block_days, rng)
    scores = bootstrap_scores(kind, outcome, predictions, counts, day_index)
    # A resample without a score knows nothing, and counts so.
    scores = np.where(np.isnan(scores), NO_SKILL[kind], scores)
    lower, upper = np.quantile(scores, [1.0 - settings.skill_confidence, settings.skill_confidence])
    point = score(kind, outcome, predictions)
    return _Interval(point, float(lower), float(upper), settings.skill_confidence, len(rows), len(days), settings.bootstrap_samples)


def _skill(name: str, where: str, evaluation: Evaluation, found: _Interval) -> GateResult:
    no_skill = NO_SKILL[evaluation.kind]
    passed = bool(found.lower > no_skill)
    reason = (
        f"{evaluation.score_name} {found.score:.3f} {where}; the lower bound {found.lower:.3f} "
        f"({found.confidence:.1%} one-sided, {found.days} trading days) is {'above' if passed else 'not above'} {no_skill:g}"
    )
    return GateResult(name, passed, found.lower, f"> {no_skill:g}", reason, asdict(found))
