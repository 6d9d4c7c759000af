"""The two tree families: random forest and gradient boosting (XGBoost; DOMAIN E.1, level 2).

Both are kept shallow and strongly regularised. On real bars an edge is a few points of ROC-AUC;
a deep tree reaches 0.9 in training on such data and nothing more than a shallow one afterwards.

Every tree is grown on one thread: the sums then have one order, so that the bits do not depend on
the number of cores. Folds and targets run side by side instead (`models.training`).
"""

from __future__ import annotations

from typing import Any, Literal

from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.pipeline import Pipeline

from models.preparation import ClipAndFill
from pipelines.settings import Forest, Xgboost

Loss = Literal["log", "squared", "absolute"]
"""What a model minimises: log-loss of a label, squared error (the mean), absolute error (the median)."""

_BOOSTED: dict[Loss, str] = {"log": "binary:logistic", "squared": "reg:squarederror", "absolute": "reg:absoluteerror"}


def build_forest(loss: Loss, settings: Forest, *, clip_quantile: float, seed: int) -> Pipeline:
    """Make an unfitted pipeline: clip and impute, random forest (Breiman 2001).

    A forest's regression is always fitted to the squared error: its mean over trees is not a
    median whatever the leaves hold, and the absolute error costs many times the time.
    """
    common: dict[str, Any] = {
        "n_estimators": settings.trees,
        "max_depth": settings.max_depth,
        "min_samples_leaf": settings.min_leaf_share,
        "max_features": settings.max_features,
        "max_samples": settings.max_samples,
        "random_state": seed,
        "n_jobs": 1,
    }
    model = RandomForestClassifier(**common, criterion="log_loss") if loss == "log" else RandomForestRegressor(**common)
    return Pipeline([("fill", ClipAndFill(clip_quantile)), ("model", model)])


def build_xgboost(loss: Loss, settings: Xgboost, *, clip_quantile: float, seed: int) -> Pipeline:
    """Make an unfitted pipeline: clip and impute, gradient boosting (Chen and Guestrin 2016)."""
    from xgboost import XGBClassifier, XGBRegressor

    common: dict[str, Any] = {
        "objective": _BOOSTED[loss],
        "n_estimators": settings.trees,
        "max_depth": settings.max_depth,
        "learning_rate": settings.learning_rate,
        "subsample": settings.subsample,
        "colsample_bytree": settings.colsample,
        "min_child_weight": settings.min_child_weight,
        "reg_lambda": settings.reg_lambda,
        "tree_method": "hist",
        "random_state": seed,
        "n_jobs": 1,
    }
    model = XGBClassifier(**common) if loss == "log" else XGBRegressor(**common)
    return Pipeline([("fill", ClipAndFill(clip_quantile)), ("model", model)])
