"""The families of the ladder as data: which models each has, what they learn, and how to make one.

Every estimator follows scikit-learn's API and is fitted by the same call,
`fit(X, y, sample_weight, start, end)`; whatever it needs unseen rows for (calibration, early stopping,
stacking) it splits off from the rows it is given, purged and embargoed by the label intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models import linear, trees
from models.calibration import CalibratedClassifier, CalibratedRegressor, HeldOutClassifier
from models.ensemble import MEMBERS, EnsembleFilter
from models.results import Kind
from models.trees import Loss
from pipelines.features.window import CHANNELS
from pipelines.settings import Family, Settings
from pipelines.splits import embargo_ns


@dataclass(frozen=True)
class ModelSpec:
    """What one model learns.

    Attributes
    ----------
    target
        Name of the model.
    kind
        Classification gives P(label = 1), regression the expected label.
    label
        Dataset target that it is fitted on.
    judged_on
        Dataset target that its score is measured against.
    loss
        What is minimised.
    probability
        Whether the value is a probability, which is then calibrated.
    """

    target: str
    kind: Kind
    label: str
    judged_on: str
    loss: Loss
    probability: bool


SIGNAL_QUALITY = ModelSpec("signal_quality", "classification", "signal_quality", "signal_quality", "log", True)
PROFITABILITY = ModelSpec("profitability", "classification", "profitability", "profitability", "log", True)
SIGNAL_STRENGTH = ModelSpec("signal_strength", "regression", "signal_strength", "realized_r", "squared", False)
PNL_PREDICTION = ModelSpec("pnl_prediction", "regression", "net_pnl", "realized_r", "squared", False)
OPTIMAL_EXIT_TIMING = ModelSpec("optimal_exit_timing", "regression", "exit_timing", "exit_timing", "absolute", False)
CONFIDENCE_SCORE = ModelSpec("confidence_score", "regression", "profitability", "realized_r", "squared", True)
"""P(profit) by least squares (the Brier score) and calibrated, judged by the money that it finds, not by the label."""

_BASIC = (SIGNAL_QUALITY, PROFITABILITY, SIGNAL_STRENGTH)
_ALL = (*_BASIC, PNL_PREDICTION, OPTIMAL_EXIT_TIMING, CONFIDENCE_SCORE)

Build = Callable[[ModelSpec, Settings], Any]


@dataclass(frozen=True)
class FamilySpec:
    """One rung of the ladder.

    Attributes
    ----------
    name
        As in `params.yaml`.
    title
        For people.
    windowed
        Whether its input holds the window of bars as well as the features.
    models
        What it learns.
    build
        Makes an unfitted estimator.
    """

    name: Family
    title: str
    windowed: bool
    models: tuple[ModelSpec, ...]
    build: Build

    def model(self, target: str) -> ModelSpec:
        """The model of this name."""
        return next(spec for spec in self.models if spec.target == target)


def _pipeline(name: Family, spec: ModelSpec, settings: Settings) -> Any:
    train = settings.train
    if name == "linear":
        return linear.build(spec.kind, train.linear, clip_quantile=train.clip_quantile)
    build: Any = trees.build_forest if name == "forest" else trees.build_xgboost
    return build(spec.loss, getattr(train, name), clip_quantile=train.clip_quantile, seed=settings.seed)


def _calibrated(name: Family) -> Build:
    def build(spec: ModelSpec, settings: Settings) -> Any:
        wrap = CalibratedClassifier if spec.kind == "classification" else CalibratedRegressor
        calibration = settings.calibration if spec.probability else None
        return wrap(_pipeline(name, spec, settings), calibration, embargo_ns(settings.splits))

    return build


def _lstm(spec: ModelSpec, settings: Settings) -> Any:
    from models import lstm

    network = lstm.build(
        spec.kind,
        settings.train.lstm,
        clip_quantile=settings.train.clip_quantile,
        channels=len(CHANNELS),
        seed=settings.seed,
        embargo_ns=embargo_ns(settings.splits),
    )
    return HeldOutClassifier(network, settings.calibration) if spec.probability else network


def _ensemble(spec: ModelSpec, settings: Settings) -> Any:
    members = {name: _pipeline(name, spec, settings) for name in MEMBERS}
    return EnsembleFilter(members, settings.train.ensemble, settings.calibration, embargo_ns(settings.splits))


FAMILIES: dict[Family, FamilySpec] = {
    spec.name: spec
    for spec in (
        FamilySpec("linear", "Linear", False, _BASIC, _calibrated("linear")),
        FamilySpec("forest", "Random forest", False, _ALL, _calibrated("forest")),
        FamilySpec("xgboost", "XGBoost", False, _ALL, _calibrated("xgboost")),
        FamilySpec("lstm", "LSTM", True, _BASIC, _lstm),
        FamilySpec("ensemble", "Ensemble filter", False, (SIGNAL_QUALITY, PROFITABILITY), _ensemble),
    )
}
"""Simplest first."""
