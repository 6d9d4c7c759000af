"""Following the registry: atomic swaps, the last good model stays, and nothing blocks a request."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from models.registry import Candidate
from pipelines.errors import InputError, SettingsError, StorageError
from pipelines.layout import DataLayout
from pipelines.settings import load_settings
from serving.deployment import NO_CANDIDATE, NOT_YET, UNREADABLE, LiveDeployment, check_required, from_registry, prepare
from serving.scorer import Deployment
from tests.serving.models_at_hand import register, submissions
from tests.serving.test_scorer import deployment

SETTINGS = load_settings()


class Script:
    """A registry that gives what it is told: a deployment, None, or an error."""

    def __init__(self, *steps: Deployment | Exception | None) -> None:
        self.steps = list(steps)

    def __call__(self, current: Deployment | None) -> Deployment | None:
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


def test_before_the_first_look_there_is_no_model_and_a_reason() -> None:
    live = LiveDeployment(Script(), 60.0)
    assert (live.view.deployment, live.view.absence, live.looked) == (None, NOT_YET, False)


def test_last_good_model_stays_while_the_registry_is_down() -> None:
    first, second = deployment([0.1]), deployment([0.2])
    live = LiveDeployment(Script(first, OSError("disk"), RuntimeError("mlflow"), second), 60.0)
    seen = []
    for _ in range(4):
        live.refresh()
        seen.append(live.view.deployment)
    assert seen == [first, first, first, second]


def test_a_withdrawn_candidate_is_no_longer_used() -> None:
    live = LiveDeployment(Script(deployment([0.1]), None), 60.0)
    live.refresh()
    live.refresh()
    assert (live.view.deployment, live.view.absence) == (None, NO_CANDIDATE)


def test_a_broken_registry_at_the_start_is_ready_and_says_so() -> None:
    live = LiveDeployment(Script(StorageError("locked")), 60.0)
    live.refresh()
    assert (live.looked, live.view.deployment, live.view.absence) == (True, None, UNREADABLE)


def test_a_hanging_registry_does_not_hold_a_request() -> None:
    entered, release = threading.Event(), threading.Event()

    def load(current: Deployment | None) -> Deployment | None:
        entered.set()
        release.wait(30)
        return None

    live = LiveDeployment(load, 60.0)
    live.start()
    try:
        assert entered.wait(30)
        assert live.view.absence == NOT_YET
    finally:
        release.set()
        live.stop()


def test_registry_without_a_candidate_gives_none_and_creates_nothing(tmp_path: Path) -> None:
    load = from_registry(SETTINGS, DataLayout(tmp_path / "nowhere"))
    assert load(None) is None
    assert not (tmp_path / "nowhere").exists()


def test_the_registrys_candidate_scores_as_it_did_in_training(tmp_path: Path) -> None:
    layout = DataLayout(tmp_path)
    made = register(layout.mlflow, 1, SETTINGS)
    load = from_registry(SETTINGS, layout)
    found = load(None)
    assert found is not None
    assert found.version == "amiral-profitability/1"
    assert found.features == SETTINGS.features
    rows = np.random.default_rng(0).uniform(0, 1, (5, 12))
    rows[0] = np.nan
    expected = found.scorer.score(rows)
    assert ((expected > 0) & (expected < 1)).all()
    # The same candidate is not made anew; a registry that vanished is an error, not "no model".
    assert load(found) is found
    shutil.move(layout.mlflow, tmp_path / "away")
    with pytest.raises(StorageError, match="is gone"):
        load(found)
    assert made.package.card.target == "profitability"


def candidate(version: int, **changes: object) -> Candidate:
    packed = submissions(1)[1].package
    return Candidate(packed.onnx, packed.card.model_copy(update=changes), version)


def test_another_version_or_other_bytes_make_a_new_deployment() -> None:
    first = prepare(candidate(1), "m", None)
    assert prepare(candidate(1), "m", first) is first
    assert prepare(candidate(2), "m", first).version == "m/2"
    # A registry that was wiped counts from 1 again.
    assert prepare(candidate(1, git_commit="1" * 40), "m", first) is not first


def test_a_model_of_other_features_is_refused() -> None:
    with pytest.raises(InputError, match="features of version 0"):
        prepare(candidate(1, feature_version="0"), "m", None)
    with pytest.raises(InputError, match=r"m/1 was trained with other feature settings"):
        prepare(candidate(1, feature_settings={"scale": "atr"}), "m", None)


def test_damaged_model_file_is_refused_and_the_last_one_stays() -> None:
    good = candidate(1)
    broken = Candidate(b"not onnx", good.card, 2)
    steps = [good, broken]
    live = LiveDeployment(lambda current: prepare(steps.pop(0), "m", current), 60.0)
    live.refresh()
    live.refresh()
    assert live.view.deployment is not None
    assert live.view.deployment.version == "m/1"


def test_unknown_required_feature_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"serving\.required_features names moon_phase"):
        check_required(("moon_phase",))
