"""From a score to a probability, learnt on trades that the scoring model was not fitted on.

A forest's or a boosted model's score orders trades, but 0.6 need not mean that six of ten win.
The calibration is fitted to purged out-of-fold scores: the training rows are cut into
walk-forward folds, each fold is scored by a model of the rows before it, and the pooled scores
are held against the labels. The model that is kept is then fitted on all rows.

Two methods, both monotone, so that a calibration may compress a score but never turn it round:

- sigmoid: p = sigmoid(slope * logit(score) + intercept) with a slope that stays positive (Platt
  1999, with the logit as in beta calibration, Kull et al. 2017). It keeps the order of scores.
- isotonic: pool-adjacent-violators on equally filled groups of scores, joined by straight lines
  (Zadrozny and Elkan 2002; the lines between group centres as in centred isotonic regression, Oron
  and Flournoy 2017). Steps between single trades would be artefacts, and too steep for float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.isotonic import isotonic_regression
from sklearn.utils.validation import check_is_fitted

from pipelines.errors import DataRefusedError
from pipelines.settings import Calibration
from pipelines.splits import PurgedWalkForward

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
Rows = NDArray[np.int64]

SMALLEST = 1e-3
"""Scores are kept this far from 0 and 1 before their logit is taken: beyond, float32 knows no digits of it."""


@dataclass(frozen=True)
class Sigmoid:
    """p = sigmoid(intercept + sum of slope * logit(score)); one slope per score."""

    slopes: tuple[float, ...]
    intercept: float

    def __call__(self, scores: Floats) -> Floats:
        """Map scores, shape (n,) or (n, scores), to probabilities, shape (n,)."""
        columns = log_odds(scores.reshape(len(scores), -1))
        return np.asarray(expit(columns @ np.array(self.slopes) + self.intercept))


@dataclass(frozen=True)
class Isotonic:
    """Straight lines through (score, probability) points, constant beyond the first and the last."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, scores: Floats) -> Floats:
        """Map scores, shape (n,), to probabilities, shape (n,)."""
        return np.interp(scores.ravel(), self.scores, self.probabilities)


Calibrator = Sigmoid | Isotonic

STEEPEST = 100.0
"""Probability per score that a step of an isotonic calibration may rise: steeper, and the rounding of a score to float32 shows."""

IDENTITY = Sigmoid((1.0,), 0.0)
"""Stands for "not calibrated": too few out-of-fold scores, or one class only among them."""


def raw_scores(estimator: Any, X: Floats) -> Floats:
    """P(class 1) of a classifier, the value of a regressor; shape (n,), float64."""
    values = estimator.predict_proba(X)[:, 1] if hasattr(estimator, "predict_proba") else estimator.predict(X)
    return np.asarray(values, dtype=np.float64).ravel()


def log_odds(scores: Floats) -> Floats:
    """Logit of scores that are kept away from 0 and 1."""
    return np.asarray(logit(np.clip(scores, SMALLEST, 1.0 - SMALLEST)))


def examples(X: Any, y: Any, start: Times | None, end: Times | None) -> tuple[Floats, Floats, Times, Times]:
    """Bring what `fit` was given into one form: float64 inputs and labels, label intervals [start, end] in ns.

    Rows that came without intervals are instants: row k is the instant k.
    """
    label = np.asarray(y, dtype=np.float64)
    begin = np.arange(len(label), dtype=np.int64) if start is None else start
    return np.asarray(X, dtype=np.float64), label, begin, begin if end is None else end


def out_of_fold(
    estimator: Any,
    X: Floats,
    y: Floats,
    weight: Floats | None,
    start: Times,
    end: Times,
    *,
    folds: int,
    embargo_ns: int,
) -> tuple[Rows, Floats]:
    """Score rows by models that were fitted on earlier rows only, purged and embargoed.

    Returns
    -------
    rows, scores
        The rows that have a score (the first block never has) and their scores. A fold whose
        training rows are gone after the purge, or hold one class only, is left out.
    """
    rows, scores = [], []
    classifier = hasattr(estimator, "predict_proba")
    blocks = min(folds, len(y) - 1)
    for train, test in PurgedWalkForward(blocks, start, end, embargo=embargo_ns, skip_empty=True).split(X):
        if classifier and np.ptp(y[train]) == 0.0:
            continue
        fitted = fit_weighted(clone(estimator), X[train], y[train], None if weight is None else weight[train])
        rows.append(test)
        scores.append(raw_scores(fitted, X[test]))
    if not rows:
        return np.empty(0, dtype=np.int64), np.empty(0)
    return np.concatenate(rows), np.concatenate(scores)


def fit_weighted(estimator: Any, X: Floats, y: Floats, weight: Floats | None) -> Any:
    """Fit a pipeline whose last step is called "model", with sample weights."""
    return estimator.fit(X, y, model__sample_weight=weight)


def fit_calibrator(scores: Floats, labels: Floats, weight: Floats | None, settings: Calibration) -> Calibrator:
    """Fit the calibration that the settings name; `IDENTITY` when there is nothing to learn from.

    Parameters
    ----------
    scores
        Shape (n,): out-of-fold scores between 0 and 1.
    labels
        Shape (n,): 0 or 1.
    weight
        Shape (n,), or None for equal weights.
    settings
        Section `calibration` of the settings.
    """
    if len(scores) < settings.bins or np.ptp(labels) == 0.0:
        return IDENTITY
    weight = np.ones(len(scores)) if weight is None else weight
    if settings.method == "isotonic":
        return _fit_isotonic(scores, labels, weight, settings.bins)
    return fit_sigmoid(scores[:, np.newaxis], labels, weight, least=settings.min_slope, penalty=settings.slope_penalty)


def fit_sigmoid(scores: Floats, labels: Floats, weight: Floats, *, least: float, penalty: float = 0.0) -> Sigmoid:
    """Weighted logistic regression on the logits of scores, every slope at least `least`.

    The penalty bounds the slope where scores are constant or separate the labels, as those of models
    fitted on few rows may.

    Parameters
    ----------
    scores
        Shape (n, k).
    labels, weight
        Shape (n,).
    least
        Smallest slope.
    penalty
        Half the squared distance of the slopes from 1/k costs this much, on the scale of the
        summed log-loss: with little evidence the result stays near the mean of the logits.
    """
    columns = log_odds(scores)
    centre = 1.0 / columns.shape[1]

    def loss(values: Floats) -> tuple[float, Floats]:
        slopes, intercept = values[:-1], values[-1]
        odds = columns @ slopes + intercept
        surplus = weight * (expit(odds) - labels)
        value = float(weight @ (np.logaddexp(0.0, odds) - labels * odds)) + 0.5 * penalty * float(((slopes - centre) ** 2).sum())
        return value, np.append(columns.T @ surplus + penalty * (slopes - centre), surplus.sum())

    begin = np.append(np.full(columns.shape[1], max(centre, least)), 0.0)
    bounds = [(least, None)] * columns.shape[1] + [(None, None)]
    found = minimize(loss, begin, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8})
    if not np.isfinite(found.x).all():
        raise DataRefusedError(
            f"the calibration on {len(scores)} scores has no solution: {found.message}",
            limit="finite scores and weights",
            remedy="look at the features for extreme values",
        )
    return Sigmoid(tuple(found.x[:-1].tolist()), float(found.x[-1]))


def _fit_isotonic(scores: Floats, labels: Floats, weight: Floats, bins: int) -> Calibrator:
    cuts = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    edges = np.unique(np.quantile(scores, cuts, weights=weight, method="inverted_cdf"))
    group = np.unique(np.searchsorted(edges, scores, side="left"), return_inverse=True)[1]
    mass: Floats = np.bincount(group, weight).astype(np.float64)
    centres: Floats = np.bincount(group, weight * scores) / mass
    shares = np.bincount(group, weight * labels) / mass
    fitted: Floats = np.asarray(isotonic_regression(shares, sample_weight=mass, y_min=0.0, y_max=1.0), dtype=np.float64)
    while len(centres) > 1:
        excess = np.diff(fitted) - STEEPEST * np.diff(centres)
        steep = int(excess.argmax())
        if excess[steep] < 0.0:
            break
        both = slice(steep, steep + 2)
        for values in (centres, fitted):
            values[steep] = np.average(values[both], weights=mass[both])
        mass[steep] += mass[steep + 1]
        centres, fitted = np.delete(centres, steep + 1), np.delete(fitted, steep + 1)
        mass = np.delete(mass, steep + 1)
    return Isotonic(tuple(centres.tolist()), tuple(fitted.tolist()))


class _Calibrated(BaseEstimator):
    """A pipeline and the calibration of its scores; see `CalibratedClassifier` and `CalibratedRegressor`."""

    def __init__(self, estimator: Any, calibration: Calibration | None, embargo_ns: int = 0) -> None:
        self.estimator = estimator
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
        """Fit the calibration on out-of-fold scores, then the model on all rows.

        Parameters
        ----------
        X
            Shape (n, inputs), NaN where missing.
        y
            Shape (n,): 0 or 1.
        sample_weight
            Shape (n,).
        start, end
            Shape (n,): label intervals [start, end], closed, ns; `start` ascending. Without them a
            row is an instant.
        """
        X, y, begin, stop = examples(X, y, start, end)
        self.calibrator_: Calibrator | None = None
        if self.calibration is not None:
            folds = self.calibration.folds
            rows, scores = out_of_fold(self.estimator, X, y, sample_weight, begin, stop, folds=folds, embargo_ns=self.embargo_ns)
            weight = None if sample_weight is None else sample_weight[rows]
            self.calibrator_ = fit_calibrator(scores, y[rows], weight, self.calibration)
        self.estimator_ = fit_weighted(clone(self.estimator), X, y, sample_weight)
        self.n_features_in_ = X.shape[1]
        return self

    def raw(self, X: Any) -> Floats:
        """Scores before the calibration; shape (n,)."""
        check_is_fitted(self, "estimator_")
        return raw_scores(self.estimator_, np.asarray(X, dtype=np.float64))

    def _final(self, X: Any) -> Floats:
        raw = self.raw(X)
        return raw if self.calibrator_ is None else self.calibrator_(raw)


class CalibratedClassifier(ClassifierMixin, _Calibrated):
    """A classifier with a purged out-of-fold calibration.

    Parameters
    ----------
    estimator
        Unfitted pipeline whose last step is called "model".
    calibration
        Section `calibration` of the settings; None leaves the scores as they are.
    embargo_ns
        Embargo between the inner folds, ns.

    Attributes
    ----------
    estimator_
        The pipeline, fitted on all rows.
    calibrator_
        The calibration, None without.
    classes_
        0 and 1.
    """

    classes_ = np.array([0, 1])

    def predict_proba(self, X: Any) -> Floats:
        """Calibrated probabilities of both classes; shape (n, 2)."""
        positive = self._final(X)
        return np.column_stack([1.0 - positive, positive])

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Whether the probability reaches one half; shape (n,)."""
        return (self._final(X) >= 0.5).astype(np.int64)


class HeldOutClassifier(CalibratedClassifier):
    """A classifier that holds rows out by itself (for early stopping) and is calibrated on these.

    The rows took part in choosing when to stop, not in fitting. The wrapped estimator leaves them in
    `validation_rows_` and their scores in `validation_raw_`.
    """

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Floats | None = None,
        start: Times | None = None,
        end: Times | None = None,
    ) -> Self:
        """Fit the model, then the calibration on the rows that the model held out."""
        X, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        self.estimator_ = clone(self.estimator).fit(X, y, sample_weight=sample_weight, start=start, end=end)
        self.calibrator_ = None
        if self.calibration is not None:
            rows = self.estimator_.validation_rows_
            weight = None if sample_weight is None else sample_weight[rows]
            self.calibrator_ = fit_calibrator(self.estimator_.validation_raw_, y[rows], weight, self.calibration)
        self.n_features_in_ = X.shape[1]
        return self


class CalibratedRegressor(RegressorMixin, _Calibrated):
    """A regression, calibrated when its target is a label and its value is read as a probability."""

    def predict(self, X: Any) -> Floats:
        """Shape (n,)."""
        return self._final(X)
