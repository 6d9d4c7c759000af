"""The ensemble filter: logistic regression, random forest and XGBoost, combined in three ways (DOMAIN I.1).

- voting: the mean of the members' calibrated probabilities (soft voting; a count of hard votes
  takes four values and cannot order trades).
- weighted: their weighted mean.
- stacking: a logistic regression on the logits of the members' scores, fitted to purged
  out-of-fold scores only, with slopes that cannot be negative (Wolpert 1992; Breiman 1996). A
  member's score of a row that it was fitted on never enters.

Two further outputs say how far to trust the result. `agreement` is the share of pairs of members
with equal hard votes. A member votes yes when its probability reaches the share of winners in
training: at a fixed 0.5 nobody would ever vote yes on a strategy that wins one trade in three.
`lowest` is the smallest of the members' probabilities. The factors that the domain puts on the
probability for low or high agreement are not applied: they would undo the calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from models.calibration import (
    IDENTITY,
    Calibrator,
    Sigmoid,
    examples,
    fit_calibrator,
    fit_sigmoid,
    fit_weighted,
    out_of_fold,
    raw_scores,
)
from pipelines.settings import Calibration, Ensemble, Family

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
Rows = NDArray[np.int64]

MEMBERS: tuple[Family, ...] = ("linear", "forest", "xgboost")


@dataclass(frozen=True)
class Combined:
    """What the ensemble says of n trades; every field has the shape (n,).

    Attributes
    ----------
    voting, weighted, stacking
        P(class 1) by each combination.
    agreement
        Share of the pairs of members that vote alike: 1 or 1/3 with three members.
    lowest
        Smallest of the members' probabilities.
    """

    voting: Floats
    weighted: Floats
    stacking: Floats
    agreement: Floats
    lowest: Floats

    def score(self, combination: str) -> Floats:
        """The combination of this name."""
        values: Floats = getattr(self, combination)
        return values


class EnsembleFilter(ClassifierMixin, BaseEstimator):
    """The members, their calibrations and the stacker; scikit-learn's API.

    Parameters
    ----------
    members
        Unfitted pipelines by name, in the order of `MEMBERS`; their last step is called "model".
    settings
        Section `train.ensemble`.
    calibration
        Section `calibration`.
    embargo_ns
        Embargo between the inner folds, ns.

    Attributes
    ----------
    members_
        The members, fitted on all rows.
    calibrators_
        Their calibrations.
    stacker_
        One slope per member.
    base_rate_
        Weighted share of class 1 in training: the threshold of the hard votes.
    out_of_fold_rows_, out_of_fold_scores_
        The rows that calibrations and stacker were fitted on, and the members' scores of these,
        shape (rows, members).
    """

    classes_ = np.array([0, 1])

    def __init__(self, members: Mapping[Any, Any], settings: Ensemble, calibration: Calibration, embargo_ns: int = 0) -> None:
        self.members = members
        self.settings = settings
        self.calibration = calibration
        self.embargo_ns = embargo_ns

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Floats | None = None,
        start: Times | None = None,
        end: Times | None = None,
    ) -> Self:
        """Fit calibrations and stacker on out-of-fold scores, then the members on all rows.

        Parameters
        ----------
        X
            Shape (n, inputs), NaN where missing.
        y
            Shape (n,): 0 or 1.
        sample_weight
            Shape (n,).
        start, end
            Shape (n,): label intervals [start, end], closed, ns; `start` ascending.
        """
        X, y, begin, stop = examples(X, y, start, end)
        weight = np.ones(len(y)) if sample_weight is None else sample_weight
        found = [
            out_of_fold(member, X, y, sample_weight, begin, stop, folds=self.calibration.folds, embargo_ns=self.embargo_ns)
            for member in self.members.values()
        ]
        # Which folds are left out depends on rows and labels alone, so every member has the same rows.
        rows = found[0][0]
        scores = np.column_stack([values for _, values in found])
        self.out_of_fold_rows_, self.out_of_fold_scores_ = rows, scores
        self.calibrators_: dict[str, Calibrator] = {
            name: fit_calibrator(scores[:, column], y[rows], weight[rows], self.calibration) for column, name in enumerate(self.members)
        }
        self.stacker_ = self._fit_stacker(scores, y[rows], weight[rows])
        self.members_ = {name: fit_weighted(clone(member), X, y, sample_weight) for name, member in self.members.items()}
        self.base_rate_ = float(np.average(y, weights=weight))
        self.n_features_in_ = X.shape[1]
        return self

    def combine(self, X: Any) -> Combined:
        """Score rows in every way."""
        check_is_fitted(self, "members_")
        values = np.asarray(X, dtype=np.float64)
        raw = np.column_stack([raw_scores(member, values) for member in self.members_.values()])
        calibrated = np.column_stack([self.calibrators_[name](raw[:, column]) for column, name in enumerate(self.members_)])
        weights = np.array([getattr(self.settings.weights, name) for name in self.members_])
        return Combined(
            voting=calibrated.mean(axis=1),
            weighted=calibrated @ (weights / weights.sum()),
            stacking=self.stacker_(raw),
            agreement=agreement(calibrated >= self.base_rate_),
            lowest=calibrated.min(axis=1),
        )

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of both classes by the combination of the settings; shape (n, 2)."""
        positive = self.combine(X).score(self.settings.combination)
        return np.column_stack([1.0 - positive, positive])

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Whether the filter approves: the probability reaches `min_confidence`; shape (n,)."""
        return (self.predict_proba(X)[:, 1] >= self.settings.min_confidence).astype(np.int64)

    def _fit_stacker(self, scores: Floats, labels: Floats, weight: Floats) -> Sigmoid:
        if len(scores) < self.calibration.bins or np.ptp(labels) == 0.0:
            return Sigmoid((1.0 / len(self.members),) * len(self.members), IDENTITY.intercept)
        return fit_sigmoid(scores, labels, weight, least=0.0, penalty=self.settings.stacking_penalty)


def agreement(votes: NDArray[np.bool_]) -> Floats:
    """Share of pairs of members with equal votes.

    Parameters
    ----------
    votes
        Shape (n, members).

    Examples
    --------
    >>> agreement(np.array([[True, True, True], [True, False, True]])).round(3).tolist()
    [1.0, 0.333]
    """
    members = votes.shape[1]
    yes = votes.sum(axis=1)
    no = members - yes
    pairs = members * (members - 1) / 2
    return np.asarray((yes * (yes - 1) + no * (no - 1)) / 2 / pairs, dtype=np.float64)
