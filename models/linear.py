"""The three linear models (DOMAIN E.1), each as one scikit-learn pipeline from raw features to score.

Clipping, imputing and scaling are steps of the pipeline, so whoever fits the pipeline inside a
fold fits them inside the fold, and the ONNX file that is served holds them as well: training and
serving cannot prepare a feature differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from models.results import Kind
from pipelines.features.twelve import FEATURES
from pipelines.settings import Linear

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LinearSpec:
    """What one linear model learns.

    Attributes
    ----------
    target
        Name of the model, and the dataset target that it is fitted on.
    kind
        Classification gives P(target = 1), regression the expected target.
    judged_on
        Dataset target that the score is measured against.
    """

    target: str
    kind: Kind
    judged_on: str


LINEAR_MODELS = (
    LinearSpec("signal_quality", "classification", "signal_quality"),
    LinearSpec("profitability", "classification", "profitability"),
    LinearSpec("signal_strength", "regression", "realized_r"),
)


def build(kind: Kind, settings: Linear) -> Pipeline:
    """Make an unfitted pipeline: clip and impute, scale, model.

    Only the features are scaled. A missing flag stays 0 or 1: scaled to unit variance, a flag that
    was set in three of a thousand trades would let these three decide about every later one.
    """
    features = list(range(len(FEATURES)))
    scale = ColumnTransformer([("features", StandardScaler(), features)], remainder="passthrough")
    if kind == "classification":
        weight = "balanced" if settings.balanced else None
        model: Any = LogisticRegression(C=settings.c, max_iter=settings.max_iter, class_weight=weight)
    else:
        model = Ridge(alpha=settings.alpha)
    return Pipeline([("fill", ClipAndFill(settings.clip_quantile)), ("scale", scale), ("model", model)])


def predict(pipeline: Pipeline, kind: Kind, features: Floats) -> Floats:
    """Score rows: P(class 1) of a classifier, the expected value of a regression; shape (n,)."""
    if kind == "classification":
        scores: Floats = pipeline.predict_proba(features)[:, 1]
        return scores
    return np.asarray(pipeline.predict(features), dtype=np.float64).ravel()


def coefficients(pipeline: Pipeline) -> dict[str, float]:
    """Coefficients by input name: per training standard deviation of a feature, per flag, and the intercept."""
    model = pipeline.named_steps["model"]
    names = (*FEATURES, *(f"{name}_missing" for name in FEATURES))
    values = np.asarray(model.coef_, dtype=np.float64).ravel()
    intercept = float(np.asarray(model.intercept_).ravel()[0])
    return {**dict(zip(names, values.tolist(), strict=True)), "intercept": intercept}


class ClipAndFill(TransformerMixin, BaseEstimator):
    """Clip to training quantiles, fill missing values with the training median, append missing flags.

    A column without a single training value becomes the constant 0, also where a value turns up
    later: nothing was learnt about it.

    Parameters
    ----------
    clip_quantile
        Values are clipped to this and the opposite training quantile; 0 clips to the extremes seen.

    Attributes
    ----------
    lower_, upper_, median_
        Shape (p,): statistics of the rows that `fit` saw.

    Examples
    --------
    >>> nan = float("nan")
    >>> fill = ClipAndFill(0.0).fit(np.array([[1.0, nan], [3.0, nan], [2.0, nan]]))
    >>> fill.transform(np.array([[nan, 5.0], [9.0, nan]])).tolist()
    [[2.0, 0.0, 1.0, 0.0], [3.0, 0.0, 0.0, 1.0]]
    """

    def __init__(self, clip_quantile: float = 0.0) -> None:
        self.clip_quantile = clip_quantile

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803, ARG002
        """Take quantiles and medians of the present values; X is (n, p) with NaN for missing."""
        values = np.asarray(X, dtype=np.float64)
        self.n_features_in_ = values.shape[1]
        seen = ~np.isnan(values).all(axis=0)
        filled = np.where(seen, values, 0.0)
        shares = [self.clip_quantile, 0.5, 1.0 - self.clip_quantile]
        self.lower_, self.median_, self.upper_ = np.nanquantile(filled, shares, axis=0)
        return self

    def transform(self, X: Any) -> Floats:  # noqa: N803
        """Give (n, 2p): the p filled columns, then the p flags."""
        check_is_fitted(self, "median_")
        values = np.asarray(X, dtype=np.float64)
        missing = np.isnan(values)
        filled = np.clip(np.where(missing, self.median_, values), self.lower_, self.upper_)
        return np.hstack([filled, missing.astype(np.float64)])
