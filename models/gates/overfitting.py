"""Whether the model has learnt its training data by heart (DOMAIN E.4).

The validation curve, feature stability, PBO and the deflated Sharpe ratio belong here as well.
"""

from __future__ import annotations

import numpy as np

from models.results import Evaluation, GateResult
from pipelines.settings import Gates


def train_test_gap(evaluation: Evaluation, settings: Gates) -> GateResult:
    """Score on the train part less score on the test part."""
    gap = evaluation.train_score - evaluation.test_score
    passed = bool(gap <= settings.max_train_test_gap)
    relation = "within" if passed else "above"
    reason = (
        f"{evaluation.score_name} falls from {evaluation.train_score:.3f} in training to {evaluation.test_score:.3f} on the test part; "
        f"the gap {gap:.3f} is {relation} {settings.max_train_test_gap:g}"
    )
    evidence = {"train": evaluation.train_score, "test": evaluation.test_score}
    return GateResult("train_test_gap", passed, gap, f"<= {settings.max_train_test_gap:g}", reason, evidence)


def fold_deviation(evaluation: Evaluation, settings: Gates) -> GateResult:
    """Standard deviation (n - 1) of the fold scores."""
    deviation = float(np.std(evaluation.fold_scores, ddof=1))
    passed = bool(deviation <= settings.max_fold_std)
    relation = "within" if passed else "above"
    reason = f"the {len(evaluation.fold_scores)} fold scores deviate by {deviation:.3f}, {relation} {settings.max_fold_std:g}"
    return GateResult("fold_deviation", passed, deviation, f"<= {settings.max_fold_std:g}", reason, {"folds": list(evaluation.fold_scores)})
