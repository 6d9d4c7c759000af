from __future__ import annotations

import pytest

from models.export import Package, package
from models.training import TrainedModel
from pipelines.dataset import Dataset
from pipelines.settings import Settings, load_settings
from tests.models.training import train_linear
from tests.models.worlds import make_dataset


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="session")
def skilled() -> Dataset:
    """2,000 trades with a strong, known edge."""
    return make_dataset(2000, seed=5, auc=0.70)


@pytest.fixture(scope="session")
def trained(skilled: Dataset, settings: Settings) -> tuple[TrainedModel, ...]:
    return train_linear(skilled, settings)


@pytest.fixture(scope="session")
def packages(trained: tuple[TrainedModel, ...], skilled: Dataset, settings: Settings) -> tuple[Package, ...]:
    return tuple(package(model, skilled, settings, git_commit="abc123") for model in trained)
