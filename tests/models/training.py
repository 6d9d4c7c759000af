"""Shorthands for tests that need trained models and do not care how."""

from __future__ import annotations

from models.training import TrainedModel, train_family
from pipelines.dataset import Dataset
from pipelines.settings import Family, Settings, load_settings

QUICK = (
    "train.forest.trees=30",
    "train.xgboost.trees=40",
    "train.lstm.max_epochs=3",
    "train.lstm.hidden=8",
    "ladder.min_trades.lstm=1000",
    "splits.folds=3",
    "calibration.folds=2",
)
"""Every family in seconds."""


def quick_settings(*overrides: str) -> Settings:
    """Settings with which every family trains in seconds."""
    return load_settings(overrides=[*QUICK, *overrides])


def train_linear(dataset: Dataset, settings: Settings) -> tuple[TrainedModel, ...]:
    """The three linear models; a model that failed is an error here."""
    return train_all_of(dataset, "linear", settings)


def train_all_of(dataset: Dataset, family: Family, settings: Settings) -> tuple[TrainedModel, ...]:
    """The models of one family; a model that failed is an error here."""
    found = train_family(dataset, family, settings)
    assert not found.failures, found.failures
    return found.models
