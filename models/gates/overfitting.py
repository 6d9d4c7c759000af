"""Whether the model has learnt its training data by heart (DOMAIN E.4).

The domain's limits are in points of ROC-AUC. A correlation runs over twice the range (-1 to 1
where the AUC runs over 0 to 1; for two classes 2 AUC - 1 is the rank-biserial correlation), so a
difference of correlations counts half.

The validation curve, feature stability, PBO and the deflated Sharpe ratio belong here as well.
"""

from __future__ import annotations

import numpy as np

from models.results import Evaluation, GateResult, Kind
from pipelines.settings import Gates

AUC_POINTS: dict[Kind, float] = {"classification": 1.0, "regression": 0.5}
"""Points of ROC-AUC per unit of score."""


def train_test_gap(evaluation: Evaluation, settings: Gates) -> GateResult:
    """Score on the train part less score on the test part, in AUC points."""
    gap = (evaluation.train_score - evaluation.test_score) * AUC_POINTS[evaluation.kind]
    passed = bool(gap <= settings.max_train_test_gap)
    relation = "within" if passed else "above"
    reason = (
        f"{evaluation.score_name} goes from {evaluation.train_score:.3f} in training to {evaluation.test_score:.3f} on the test part; "
        f"the gap of {gap:.3f} AUC points is {relation} {settings.max_train_test_gap:g}"
    )
    evidence = {"train": evaluation.train_score, "test": evaluation.test_score, "auc_points_per_score": AUC_POINTS[evaluation.kind]}
    return GateResult("train_test_gap", passed, gap, f"<= {settings.max_train_test_gap:g}", reason, evidence)


def fold_deviation(evaluation: Evaluation, settings: Gates) -> GateResult:
    """Standard deviation (n - 1) of the fold scores, in AUC points."""
    deviation = float(np.std(evaluation.fold_scores, ddof=1)) * AUC_POINTS[evaluation.kind]
    passed = bool(deviation <= settings.max_fold_std)
    relation = "within" if passed else "above"
    reason = f"the {len(evaluation.fold_scores)} fold scores deviate by {deviation:.3f} AUC points, {relation} {settings.max_fold_std:g}"
    evidence = {"folds": list(evaluation.fold_scores), "auc_points_per_score": AUC_POINTS[evaluation.kind]}
    return GateResult("fold_deviation", passed, deviation, f"<= {settings.max_fold_std:g}", reason, evidence)
