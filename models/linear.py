"""The linear family (DOMAIN E.1): logistic regression for the two labels, ridge for the strength of a signal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from models.preparation import FLAGS, ClipAndFill
from models.results import Kind
from pipelines.features.twelve import FEATURES
from pipelines.settings import Linear

Floats = NDArray[np.float64]


def build(kind: Kind, settings: Linear, *, clip_quantile: float) -> Pipeline:
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
    return Pipeline([("fill", ClipAndFill(clip_quantile)), ("scale", scale), ("model", model)])


def coefficients(pipeline: Pipeline) -> dict[str, float]:
    """Coefficients by input name: per training standard deviation of a feature, per flag, and the intercept."""
    model = pipeline.named_steps["model"]
    values = np.asarray(model.coef_, dtype=np.float64).ravel()
    intercept = float(np.asarray(model.intercept_).ravel()[0])
    return {**dict(zip((*FEATURES, *FLAGS), values.tolist(), strict=True)), "intercept": intercept}
