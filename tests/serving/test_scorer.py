"""Scoring one signal: what a model may change, and that every fault leaves the signal as it was."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.results import Kind
from pipelines.contracts.signal import Signal
from pipelines.features.twelve import FEATURES, compute_one
from pipelines.features.window import compute_window_one
from pipelines.settings import load_settings
from serving.scorer import Deployment, score_signal
from tests.factories import signal_dict

SETTINGS = load_settings()
REQUIRED = SETTINGS.serving.required_features


@dataclass
class Fixed:
    """Gives one score, and remembers what it was asked."""

    value: Any
    asked: np.ndarray | None = None

    windowed = False

    def score(self, features: np.ndarray, windows: np.ndarray | None = None, /) -> np.ndarray:
        self.asked = features
        if isinstance(self.value, BaseException):
            raise self.value
        return np.asarray(self.value)


def deployment(value: Any, kind: Kind = "classification") -> Deployment:
    return Deployment("amiral-profitability/7", Fixed(value), kind, SETTINGS.features, "f" * 64, simulated=False, stage="production")


def signal(**changes: Any) -> Signal:
    return Signal.model_validate(signal_dict(np.random.default_rng(3)) | changes)


@given(st.floats(0.0, 1.0))
def test_a_candidate_scores_in_the_shadow_and_changes_nothing(value: float) -> None:
    asked = signal()
    answer = score_signal(asked, replace(deployment([value]), stage="candidate"), REQUIRED)
    assert (answer.score, answer.decision, answer.stage, answer.degraded) == (value, "shadow", "candidate", False)
    assert answer.enhanced_confidence == asked.battle_navale.confidence


@pytest.mark.parametrize(("source", "degraded"), [("live", True), ("paper", True), ("replay", True), ("simulated", False)])
def test_a_model_of_simulated_trades_says_nothing_of_a_market(source: str, degraded: bool) -> None:
    asked = signal(data_source=source)
    answer = score_signal(asked, replace(deployment([0.9]), simulated=True), REQUIRED)
    assert answer.degraded == degraded
    if degraded:
        assert answer.enhanced_confidence == asked.battle_navale.confidence
        assert "learnt from simulated trades" in answer.reason


def without_atr() -> Signal:
    record = signal_dict(np.random.default_rng(3))
    record["market_state"]["atr_14"] = None
    return Signal.model_validate(record)


@given(st.floats(0.0, 1.0), st.integers(0, 2**16))
def test_a_score_is_averaged_with_the_own_confidence(value: float, seed: int) -> None:
    asked = Signal.model_validate(signal_dict(np.random.default_rng(seed)))
    answer = score_signal(asked, deployment([value]), REQUIRED)
    assert answer.enhanced_confidence == (asked.battle_navale.confidence + value) / 2
    assert (answer.score, answer.decision, answer.degraded, answer.reason) == (value, "scored", False, "")
    assert answer.model_version == "amiral-profitability/7"
    assert answer.size_multiplier == 1.0


def test_a_low_probability_lowers_the_confidence() -> None:
    # A model that is sure of a loss must not raise the confidence by its own certainty.
    asked = signal()
    answer = score_signal(asked, deployment([0.01]), REQUIRED)
    assert answer.enhanced_confidence < asked.battle_navale.confidence


def test_the_model_is_given_the_features_of_training() -> None:
    asked = signal()
    other = SETTINGS.features.model_copy(update={"spread_full_ticks": SETTINGS.features.spread_full_ticks * 2})
    used = replace(deployment([0.5]), features=other)
    score_signal(asked, used, REQUIRED)
    assert isinstance(used.scorer, Fixed)
    np.testing.assert_array_equal(used.scorer.asked, compute_one(asked, other)[np.newaxis])
    assert not np.array_equal(compute_one(asked, other), compute_one(asked, SETTINGS.features))


@pytest.mark.parametrize(
    ("used", "reason"),
    [
        (None, "no candidate model"),
        (deployment([float("nan")]), "nan, not a finite score"),
        (deployment([float("inf")]), "inf, not a finite score"),
        (deployment([1.7]), "1.7, not a probability"),
        (deployment([-0.2]), "-0.2, not a probability"),
        (deployment([]), "scoring failed: IndexError"),
        (deployment(RuntimeError("tensor shape /secret/path")), "scoring failed: RuntimeError"),
        (deployment(MemoryError()), "scoring failed: MemoryError"),
    ],
)
def test_every_fault_hands_the_own_confidence_back(used: Deployment | None, reason: str) -> None:
    asked = signal()
    answer = score_signal(asked, used, REQUIRED)
    assert answer.enhanced_confidence == asked.battle_navale.confidence
    assert (answer.score, answer.decision, answer.size_multiplier, answer.degraded) == (None, "neutral", 1.0, True)
    assert reason in answer.reason
    assert "/secret/path" not in answer.reason


def test_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        score_signal(signal(), deployment(KeyboardInterrupt()), REQUIRED)


def test_a_missing_required_feature_gives_no_score() -> None:
    asked = without_atr()
    answer = score_signal(asked, deployment([0.9]), REQUIRED)
    assert answer.degraded
    assert answer.enhanced_confidence == asked.battle_navale.confidence
    assert answer.reason.startswith("required feature missing: ")
    assert "recent_momentum" in answer.reason


def test_a_missing_optional_feature_is_left_to_the_model() -> None:
    record = signal_dict(np.random.default_rng(3))
    record["market_structure"]["vix_level"] = record["market_state"]["spread_ticks"] = None
    answer = score_signal(Signal.model_validate(record), deployment([0.9]), REQUIRED)
    assert not answer.degraded


def test_rounding_and_regressions_may_leave_the_range_a_little() -> None:
    assert score_signal(signal(), deployment([1.0 + 1e-7]), REQUIRED).score == 1.0
    assert score_signal(signal(), deployment([1.2], "regression"), REQUIRED).score == 1.0
    assert score_signal(signal(), deployment([-0.1], "regression"), REQUIRED).score == 0.0


def test_required_features_exist() -> None:
    assert set(REQUIRED) <= set(FEATURES)


def test_a_recurrent_model_is_given_the_window_of_the_signal() -> None:
    class Recurrent(Fixed):
        windowed = True

        def score(self, features: np.ndarray, windows: np.ndarray | None = None, /) -> np.ndarray:
            self.windows = windows
            return super().score(features)

    asked = signal()
    scorer = Recurrent([0.6])
    answer = score_signal(asked, replace(deployment([0.6]), scorer=scorer), REQUIRED)
    assert answer.score == 0.6
    assert scorer.windows is not None
    np.testing.assert_array_equal(scorer.windows, compute_window_one(asked)[np.newaxis])
