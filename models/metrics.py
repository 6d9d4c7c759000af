"""Metrics of DOMAIN E.3, always for the positive class (J-14, J-15), and the scores that gates compare."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

from models.results import Kind

Floats = NDArray[np.float64]

NAN = float("nan")


def score(kind: Kind, outcome: Floats, predictions: Floats) -> float:
    """ROC-AUC of a classifier, Pearson correlation of a regression; NaN where it is not defined.

    The regression is judged on realised R, and not by rank: without any edge the mean of R is the
    same for every trade, but its median is not. Most trades lose one R and few win two; a trade
    that the session's end closes early lands in between. Ranks reward a model for knowing the clock.
    """
    return auc(outcome, predictions) if kind == "classification" else pearson(outcome, predictions)


def auc(outcome: Floats, predictions: Floats) -> float:
    """Chance that a positive example scores above a negative one, ties half; NaN with one class only."""
    return float(sk.roc_auc_score(outcome, predictions)) if _both_classes(outcome) else NAN


def pearson(outcome: Floats, predictions: Floats) -> float:
    """Linear correlation; NaN when one side does not vary."""
    if len(outcome) < 3 or np.ptp(outcome) == 0.0 or np.ptp(predictions) == 0.0:
        return NAN
    return float(np.corrcoef(outcome, predictions)[0, 1])


def spearman(outcome: Floats, predictions: Floats) -> float:
    """Rank correlation; NaN when one side does not vary, for then there is no order to compare."""
    if len(outcome) < 3 or np.ptp(outcome) == 0.0 or np.ptp(predictions) == 0.0:
        return NAN
    return float(stats.spearmanr(outcome, predictions).statistic)


def classification(outcome: Floats, probability: Floats, taken: NDArray[np.bool_]) -> dict[str, float]:
    """Metrics of a classifier; `taken` marks the trades that the policy would take.

    Keys that end in `_taken` use the policy as the decision, the others a probability of 0.5.
    Precision is 0 where nothing was predicted positive.
    """
    decided = probability >= 0.5
    varied = np.clip(probability, 1e-15, 1.0 - 1e-15)
    both = _both_classes(outcome)
    return {
        "accuracy": float(sk.accuracy_score(outcome, decided)),
        "balanced_accuracy": float(sk.balanced_accuracy_score(outcome, decided)) if both else NAN,
        "precision": float(sk.precision_score(outcome, decided, zero_division=0.0)),
        "recall": float(sk.recall_score(outcome, decided, zero_division=0.0)),
        "f1": float(sk.f1_score(outcome, decided, zero_division=0.0)),
        "mcc": float(sk.matthews_corrcoef(outcome, decided)),
        "precision_taken": float(sk.precision_score(outcome, taken, zero_division=0.0)),
        "recall_taken": float(sk.recall_score(outcome, taken, zero_division=0.0)),
        "balanced_accuracy_taken": float(sk.balanced_accuracy_score(outcome, taken)) if both else NAN,
        "roc_auc": auc(outcome, probability),
        "pr_auc": float(sk.average_precision_score(outcome, probability)) if both else NAN,
        "brier": float(np.mean((probability - outcome) ** 2)),
        "log_loss": float(-np.mean(outcome * np.log(varied) + (1.0 - outcome) * np.log(1.0 - varied))),
    }


def regression(outcome: Floats, predictions: Floats, target: Floats) -> dict[str, float]:
    """Metrics of a regression: errors against its target, correlations with the outcome it is judged on."""
    return {
        "mae": float(np.mean(np.abs(predictions - target))),
        "rmse": float(np.sqrt(np.mean((predictions - target) ** 2))),
        "r2": float(sk.r2_score(target, predictions)) if len(target) > 1 else NAN,
        "pearson": pearson(outcome, predictions),
        "spearman": spearman(outcome, predictions),
    }


def calibration(label: Floats, raw: Floats, probability: Floats, bins: int) -> dict[str, float]:
    """How well probabilities fit the observed shares, before and after the calibration.

    The calibration error is the mean distance between the predicted and the observed share over
    equally filled bins, weighted by their trades (Naeini et al. 2015).
    """
    return {
        "brier_raw": float(np.mean((raw - label) ** 2)),
        "brier": float(np.mean((probability - label) ** 2)),
        "calibration_error_raw": _calibration_error(label, raw, bins),
        "calibration_error": _calibration_error(label, probability, bins),
    }


def _calibration_error(label: Floats, probability: Floats, bins: int) -> float:
    edges = np.unique(np.quantile(probability, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    group = np.searchsorted(edges, probability, side="left")
    distance = np.abs(np.bincount(group, label) - np.bincount(group, probability))
    return float(distance.sum() / len(label))


def _both_classes(outcome: Floats) -> bool:
    return bool(0.0 < outcome.mean() < 1.0) if len(outcome) else False
