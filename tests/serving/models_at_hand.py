"""A judged model and a registry that holds it, for the serving tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from models.export import package
from models.gates.battery import judge
from models.registry import Registry, Submission
from pipelines.settings import Settings, load_settings
from tests.models.training import train_linear
from tests.models.worlds import make_dataset

TRADES = 2800


@cache
def submissions(seed: int) -> tuple[Submission, ...]:
    """The three linear models on a world with a strong known edge; all of them pass their gates."""
    settings = load_settings(overrides=["gates.bootstrap_samples=200"])
    dataset = make_dataset(TRADES, seed, auc=0.75)
    made = []
    for model in train_linear(dataset, settings):
        packed = package(model, dataset, settings, git_commit="0" * 40)
        made.append(Submission(model.evaluation, judge(model.evaluation, dataset, settings, parity=packed.parity), packed))
    return tuple(made)


def register(folder: Path, seed: int, settings: Settings) -> Submission:
    """Record a training in a registry; returns the model that the service scores with."""
    made = submissions(seed)
    Registry(folder, settings.registry).record(made, dataset_card={"rows": TRADES}, settings=settings, run_name=f"test {seed}")
    chosen = next(item for item in made if item.evaluation.target == settings.serving.target)
    assert chosen.verdict.candidate, chosen.verdict.reasons
    return chosen
