"""Whether the model tells good trades from bad ones better than no model, beyond what luck can do.

Two samples must say so independently: the pooled out-of-fold predictions (many trades) and the
test part (never seen). In each, the lower bound of a one-sided block-bootstrap interval over
trading days must lie above no skill. A third gate asks for a useful size of the skill (DOMAIN E.6).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from models.gates.bootstrap import bootstrap_scores, draw_days
from models.metrics import score
from models.results import Evaluation, GateResult
from pipelines.dataset import Dataset
from pipelines.settings import Gates

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

NO_SKILL = {"classification": 0.5, "regression": 0.0}
"""Score of a model that knows nothing."""


def skill_out_of_fold(evaluation: Evaluation, dataset: Dataset, settings: Gates, rng: np.random.Generator) -> GateResult:
    """Skill over no skill on the pooled out-of-fold predictions.

    Every fold has its own model, whose scores sit on their own level; predictions are therefore
    turned into ranks within their fold before they are pooled.
    """
    pooled = np.empty(len(evaluation.oof_rows))
    for fold in np.unique(evaluation.oof_folds):
        inside = evaluation.oof_folds == fold
        pooled[inside] = stats.rankdata(evaluation.oof_predictions[inside]) / (inside.sum() + 1.0)
    return _skill("out_of_fold_skill", "out of fold", evaluation, evaluation.oof_rows, pooled, dataset, settings, rng)


def skill_on_test(evaluation: Evaluation, dataset: Dataset, settings: Gates, rng: np.random.Generator) -> GateResult:
    """Skill over no skill on the test part."""
    return _skill("test_skill", "on the test part", evaluation, evaluation.test_rows, evaluation.test_predictions, dataset, settings, rng)


def score_on_test(evaluation: Evaluation, settings: Gates) -> GateResult:
    """Point score on the test part against the smallest useful one."""
    limit = settings.min_test_auc if evaluation.kind == "classification" else settings.min_test_correlation
    value = evaluation.test_score
    passed = bool(value >= limit)
    relation = "reaches" if passed else "is below"
    reason = f"{evaluation.score_name} {value:.3f} on {evaluation.rows['test']} test trades {relation} {limit:g}"
    return GateResult("test_score", passed, value, f">= {limit:g}", reason, {"trades": evaluation.rows["test"]})


def _skill(
    name: str,
    where: str,
    evaluation: Evaluation,
    rows: Rows,
    predictions: Floats,
    dataset: Dataset,
    settings: Gates,
    rng: np.random.Generator,
) -> GateResult:
    outcome = dataset.target(evaluation.judged_on)[rows]
    days, day_index = np.unique(dataset.trading_days[rows], return_inverse=True)
    no_skill = NO_SKILL[evaluation.kind]
    point = score(evaluation.kind, outcome, predictions)
    counts = draw_days(len(days), settings.bootstrap_samples, settings.bootstrap_block_days, rng)
    scores = bootstrap_scores(evaluation.kind, outcome, predictions, counts, day_index)
    # A resample without a score knows nothing, and counts so.
    scores = np.where(np.isnan(scores), no_skill, scores)
    lower, upper = np.quantile(scores, [1.0 - settings.skill_confidence, settings.skill_confidence])
    passed = bool(lower > no_skill)
    relation = "above" if passed else "not above"
    reason = (
        f"{evaluation.score_name} {point:.3f} {where}; the lower bound {lower:.3f} "
        f"({settings.skill_confidence:.1%} one-sided, {len(days)} trading days) is {relation} {no_skill:g}"
    )
    evidence = {
        "score": point,
        "lower": float(lower),
        "upper": float(upper),
        "confidence": settings.skill_confidence,
        "trades": len(rows),
        "days": len(days),
        "samples": settings.bootstrap_samples,
    }
    return GateResult(name, passed, float(lower), f"> {no_skill:g}", reason, evidence)
