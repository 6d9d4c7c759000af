from __future__ import annotations

import copy
import dataclasses
import math
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import comb, expit, logit

from models.artifact import OnnxScorer, Package
from models.calibration import raw_scores
from models.explain import WINDOW_INPUTS, Importance, contributions, explain, shifts
from models.export import package
from models.families import FAMILIES
from models.training import TrainedModel, train_family
from pipelines.dataset import Dataset
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURES
from pipelines.features.window import CHANNELS
from pipelines.settings import Explain, Family, Settings
from tests.models.training import quick_settings
from tests.models.worlds import noise_windows, of_realized_r

DRIVER, CONSTANT, SPARSE = 2, 7, 5
CHANNEL = CHANNELS.index("volume")
COUNT = 1200

QUALITY: tuple[tuple[Family, str], ...] = (
    ("linear", "signal_quality"),
    ("forest", "signal_quality"),
    ("xgboost", "signal_quality"),
    ("ensemble", "signal_quality"),
)
STRENGTH: tuple[tuple[Family, str], ...] = (("linear", "signal_strength"), ("forest", "signal_strength"), ("xgboost", "signal_strength"))
WINDOWED: tuple[tuple[Family, str], ...] = (("lstm", "signal_quality"),)


@cache
def quick() -> Settings:
    return quick_settings(
        "explain.shap_rows=60",
        "explain.background_rows=50",
        "explain.repeats=4",
        "train.lstm.max_epochs=8",
        "train.lstm.learning_rate=0.01",
        "ladder.min_trades.xgboost=1000",
        "ladder.min_trades.ensemble=1000",
    )


def world(odds: np.ndarray, features: np.ndarray, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    realized = np.where(rng.random(len(odds)) < expit(odds), 2.0, -1.0)
    return of_realized_r(features, realized, rng, window_seed=seed)


def uniform(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.0, 1.0, (COUNT, len(FEATURES)))


@cache
def driven() -> Dataset:
    """One feature decides, one is constant, one is missing at random."""
    features = uniform(1)
    features[:, CONSTANT] = 0.25
    features[np.random.default_rng(2).random(COUNT) < 0.2, SPARSE] = np.nan
    return world(4.0 * features[:, DRIVER], features, 3)


@cache
def driven_by_window() -> Dataset:
    """The level of one channel of the window decides."""
    level = np.random.default_rng(4).normal(size=COUNT)
    dataset = world(3.0 * level, uniform(5), 6)
    windows = noise_windows(COUNT, 7)
    windows[:, :, CHANNEL] += level[:, np.newaxis].astype(np.float32)
    return dataclasses.replace(dataset, windows=windows)


@cache
def blank() -> Dataset:
    """No feature and no channel varies, so every model says the same of every trade."""
    dataset = world(np.zeros(COUNT), np.full((COUNT, len(FEATURES)), 0.25), 8)
    return dataclasses.replace(dataset, windows=np.ones_like(dataset.windows))


WORLDS = {"driven": driven, "driven_by_window": driven_by_window, "blank": blank}


@cache
def fitted(name: str, family: Family, target: str) -> tuple[TrainedModel, Package]:
    dataset = WORLDS[name]()
    found = train_family(dataset, family, quick(), targets=[target])
    assert not found.failures, found.failures
    return found.models[0], package(found.models[0], dataset, quick(), git_commit="abc123")


@cache
def explained(name: str, family: Family, target: str) -> Importance:
    model, packed = fitted(name, family, target)
    return explain(model.estimator, packed, model.evaluation, WORLDS[name](), quick())


def with_explain(**values: int) -> Explain:
    return quick().explain.model_copy(update=values)


@pytest.mark.parametrize(("family", "target"), QUALITY + STRENGTH)
def test_the_driver_gets_the_largest_share_and_noise_next_to_none(family: Family, target: str) -> None:
    found = explained("driven", family, target)
    assert found.inputs == FEATURES
    for shares in (found.permutation_share, found.shap_share):
        assert np.argmax(shares) == DRIVER
        assert shares[DRIVER] > 0.6
        assert max(share for index, share in enumerate(shares) if index != DRIVER) < 0.12
        assert sum(shares) == pytest.approx(1.0)
        assert min(shares) >= 0.0


@pytest.mark.parametrize(("family", "target"), QUALITY + STRENGTH)
def test_a_constant_input_is_worth_exactly_nothing(family: Family, target: str) -> None:
    found = explained("driven", family, target)
    assert found.permutation[CONSTANT] == 0.0
    assert found.permutation_std[CONSTANT] == 0.0
    assert found.shap[CONSTANT] == 0.0


@pytest.mark.parametrize(("family", "target"), QUALITY + STRENGTH)
def test_shuffling_the_only_driver_costs_all_skill_of_the_evaluation(family: Family, target: str) -> None:
    evaluation = fitted("driven", family, target)[0].evaluation
    found = explained("driven", family, target)
    no_skill = 0.5 if evaluation.kind == "classification" else 0.0
    assert found.permutation[DRIVER] == pytest.approx(evaluation.test_score - no_skill, abs=0.06)
    assert (found.score_name, found.rows) == (evaluation.score_name, len(evaluation.test_rows))


@pytest.mark.parametrize(("family", "target"), WINDOWED)
def test_a_channel_of_the_window_is_one_input(family: Family, target: str) -> None:
    found = explained("driven_by_window", family, target)
    assert found.inputs == (*FEATURES, *WINDOW_INPUTS)
    driver = found.inputs.index("window.volume")
    for shares in (found.permutation_share, found.shap_share):
        assert np.argmax(shares) == driver
        assert shares[driver] > 3.0 * sorted(shares)[-2]
        assert sum(shares) == pytest.approx(1.0)


@pytest.mark.parametrize(("family", "target"), WINDOWED)
def test_an_lstm_that_listens_to_a_feature_says_so(family: Family, target: str) -> None:
    found = explained("driven", family, target)
    assert np.argmax(found.permutation_share) == DRIVER
    assert np.argmax(found.shap_share) == DRIVER
    assert found.permutation[CONSTANT] == 0.0
    assert found.shap[CONSTANT] == 0.0


@pytest.mark.parametrize("family", ["linear", "forest", "xgboost"])
def test_being_missing_counts_for_the_feature_that_is_missing(family: Family) -> None:
    features = uniform(9)
    gone = np.random.default_rng(10).random(COUNT) < 0.5
    features[gone, SPARSE] = np.nan
    dataset = world(np.where(gone, 2.0, -2.0), features, 11)
    model = train_family(dataset, family, quick(), targets=["signal_quality"]).models[0]
    packed = package(model, dataset, quick(), git_commit="abc123")
    found = explain(model.estimator, packed, model.evaluation, dataset, quick())
    assert found.permutation_share[SPARSE] > 0.8
    assert found.shap_share[SPARSE] > 0.6


@pytest.mark.parametrize(("family", "target"), QUALITY + STRENGTH + WINDOWED)
def test_contributions_and_base_add_up_to_what_the_model_says(family: Family, target: str) -> None:
    dataset = driven()
    model, packed = fitted("driven", family, target)
    train = model.evaluation.train_rows
    # With room for every training trade, the explained trades are all of them, in order.
    everyone = with_explain(shap_rows=len(train))
    found = contributions(model.estimator, packed, dataset, train, everyone, np.random.default_rng(0))
    np.testing.assert_allclose(found.values.sum(axis=1) + found.base, found.score, atol=2e-6)
    matrix = dataset.matrix(FAMILIES[family].windowed)[train]
    if family in ("ensemble", "lstm"):
        expected = raw_scores(model.estimator, matrix)
    else:
        expected = model.estimator.raw(matrix)
        if "log-odds" in found.method:
            expected = logit(expected)
    np.testing.assert_allclose(found.score, expected, atol=2e-5)


def test_sampled_values_agree_with_the_exact_ones_of_a_linear_model() -> None:
    model, packed = fitted("driven", "linear", "signal_strength")
    section = with_explain(shap_rows=10, background_rows=40)
    rows = model.evaluation.train_rows

    def values(estimator: object) -> np.ndarray:
        return contributions(estimator, packed, driven(), rows, section, np.random.default_rng(1)).values

    exact, sampled = values(model.estimator), values(object())
    assert np.isnan(driven().features[rows, SPARSE]).any()
    np.testing.assert_allclose(sampled, exact, atol=0.02 * np.abs(exact).max())


def test_sampled_values_agree_with_all_coalitions_of_the_ensemble() -> None:
    dataset = driven()
    model, packed = fitted("driven", "ensemble", "signal_quality")
    rows = model.evaluation.train_rows[:10]
    section = with_explain(shap_rows=10, background_rows=10)
    found = contributions(model.estimator, packed, dataset, rows, section, np.random.default_rng(2))
    chosen = dataset.features[rows]
    expected = _all_coalitions(OnnxScorer(packed.onnx, packed.card), chosen[:2], chosen)
    np.testing.assert_allclose(found.values[:2], expected, atol=0.03 * np.abs(expected).max())


def _all_coalitions(scorer: OnnxScorer, rows: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Shapley's definition: the mean gain with a feature over all sets of the others, weighted by their size."""
    count = rows.shape[1]
    known = np.array(list(product([False, True], repeat=count)))
    found = np.empty(rows.shape)
    for number, row in enumerate(rows):
        mixed = np.where(known[:, np.newaxis], row, background)
        worth = scorer.score(mixed.reshape(-1, count)).reshape(len(known), -1).mean(axis=1)
        for feature in range(count):
            bit = 1 << (count - 1 - feature)
            without = np.flatnonzero(~known[:, feature])
            weight = 1.0 / (count * comb(count - 1, known[without].sum(axis=1)))
            found[number, feature] = weight @ (worth[without + bit] - worth[without])
    return found


@pytest.mark.parametrize(("family", "target"), QUALITY + STRENGTH + WINDOWED)
def test_a_model_that_says_the_same_of_every_trade_has_no_shares(family: Family, target: str) -> None:
    found = explained("blank", family, target)
    assert set(found.permutation) == {0.0}
    assert set(found.permutation_share) == {0.0}
    assert set(found.shap) == {0.0}
    assert set(found.shap_share) == {0.0}


@pytest.mark.parametrize("target", ["signal_quality", "signal_strength"])
def test_contributions_of_the_size_of_rounding_are_no_shares(target: str) -> None:
    model, packed = fitted("driven", "linear", target)
    faint = copy.deepcopy(model.estimator)
    faint.estimator_[-1].coef_ = np.full_like(faint.estimator_[-1].coef_, 1e-9)
    found = explain(faint, packed, model.evaluation, driven(), quick())
    assert set(found.shap) == {0.0}
    assert set(found.shap_share) == {0.0}


@pytest.mark.parametrize("family", ["forest", "ensemble"])
def test_the_same_seed_gives_the_same_numbers_and_global_randomness_is_left_alone(family: Family) -> None:
    model, packed = fitted("driven", family, "signal_quality")
    first = explained("driven", family, "signal_quality")
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert explain(model.estimator, packed, model.evaluation, driven(), quick()) == first
    assert np.random.random() == expected  # noqa: NPY002
    other = explain(model.estimator, packed, model.evaluation, driven(), quick().model_copy(update={"seed": 43}))
    assert other.permutation != first.permutation
    assert other.shap != first.shap


@pytest.mark.parametrize(("family", "target"), QUALITY)
def test_shap_values_see_nothing_of_the_test_part(family: Family, target: str) -> None:
    """DOMAIN J-19; and the permutation importance sees nothing else."""
    model, packed = fitted("driven", family, target)
    first = explained("driven", family, target)
    columns = [f"feature.{name}" for name in FEATURES]

    def spoilt(rows: np.ndarray) -> Importance:
        frame = driven().frame.copy()
        frame.loc[rows, columns] = np.random.default_rng(12).uniform(-1.0, 1.0, (len(rows), len(columns)))
        return explain(model.estimator, packed, model.evaluation, dataclasses.replace(driven(), frame=frame), quick())

    test = spoilt(model.evaluation.test_rows)
    assert test.shap == first.shap
    assert test.permutation != first.permutation
    rest = spoilt(np.setdiff1d(np.arange(COUNT), model.evaluation.test_rows))
    assert rest.shap != first.shap
    assert rest.permutation == first.permutation


def test_a_test_part_without_both_classes_has_no_permutation_importance_and_survives_json() -> None:
    model, packed = fitted("driven", "linear", "signal_quality")
    test = model.evaluation.test_rows
    winners = test[driven().target("signal_quality")[test] == 1.0]
    found = explain(model.estimator, packed, dataclasses.replace(model.evaluation, test_rows=winners), driven(), quick())
    assert all(math.isnan(value) for value in found.permutation)
    assert set(found.permutation_share) == {0.0}
    assert found.shap_share[DRIVER] > 0.6
    again = Importance.from_json(found.to_json())
    assert all(math.isnan(value) for value in again.permutation + again.permutation_std)
    assert dataclasses.replace(again, permutation=(), permutation_std=()) == dataclasses.replace(found, permutation=(), permutation_std=())


def test_json_keeps_every_bit() -> None:
    found = explained("driven", "linear", "signal_quality")
    assert Importance.from_json(found.to_json()) == found
    assert Importance.from_json(found.to_json().encode()) == found


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"inputs": ["a"]}', "null"])
def test_what_is_no_importance_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read.*remedy"):
        Importance.from_json(text)


def test_an_importance_without_a_value_for_every_input_is_refused() -> None:
    found = importance({"a": 0.5, "b": 0.5})
    with pytest.raises(InputError, match=r"2 inputs but .*'shap': 1"):
        Importance.from_json(dataclasses.replace(found, shap=(1.0,)).to_json())


def importance(shares: dict[str, float]) -> Importance:
    zeros = (0.0,) * len(shares)
    return Importance(tuple(shares), zeros, zeros, tuple(shares.values()), zeros, zeros, "none", "ROC-AUC", 100)


LIMITS = Explain(repeats=1, shap_rows=10, background_rows=10, max_shift=0.5, min_share=0.125, new_share=0.0625)
"""Limits that binary numbers hit exactly."""


def test_a_first_version_has_no_shifts() -> None:
    assert shifts(importance({"a": 1.0}), None, LIMITS) == ()


@pytest.mark.parametrize(
    ("previous", "current", "change", "flagged"),
    [
        (0.25, 0.375, 0.5, False),  # exactly at max_shift, up
        (0.25, 0.125, -0.5, False),  # and down
        (0.25, 0.390625, 0.5625, True),
        (0.25, 0.109375, -0.5625, True),
        (0.25, 0.25, 0.0, False),
        (0.25, 0.0, -1.0, True),  # vanished
        (0.125, 0.25, 1.0, True),  # exactly at min_share is compared
        (0.0, 0.078125, None, True),  # new
    ],
)
def test_a_share_that_moved_by_more_than_the_limit_is_flagged(previous: float, current: float, change: float | None, flagged: bool) -> None:
    (found,) = shifts(importance({"a": current}), importance({"a": previous}), LIMITS)
    assert (found.input, found.current, found.previous, found.change, found.flagged) == ("a", current, previous, change, flagged)
    assert found.note


@pytest.mark.parametrize(
    ("previous", "current"),
    [
        (0.1171875, 0.9),  # just below min_share
        (0.0, 0.0625),  # exactly at new_share
        (0.0, 0.0),
    ],
)
def test_small_shares_are_not_compared(previous: float, current: float) -> None:
    assert shifts(importance({"a": current}), importance({"a": previous}), LIMITS) == ()


def test_inputs_may_come_and_go() -> None:
    previous = importance({"kept": 0.5, "gone": 0.375, "gone small": 0.0625})
    current = importance({"new": 0.25, "new small": 0.0625, "kept": 0.5})
    found = {shift.input: shift for shift in shifts(current, previous, LIMITS)}
    assert list(found) == ["new", "kept", "gone"]
    assert (found["new"].previous, found["new"].change, found["new"].flagged) == (0.0, None, True)
    assert "not an input before" in found["new"].note
    assert (found["gone"].current, found["gone"].change, found["gone"].flagged) == (0.0, -1.0, True)
    assert "no longer an input" in found["gone"].note
    assert not found["kept"].flagged


def test_shares_are_compared_with_min_share_zero() -> None:
    """A limit of zero leaves nothing out, and a share of zero is still new and no divisor."""
    limits = LIMITS.model_copy(update={"min_share": 0.0})
    found = shifts(importance({"a": 0.5, "b": 0.25}), importance({"a": 0.0, "b": 0.0001}), limits)
    assert [(shift.input, shift.flagged, shift.change is None) for shift in found] == [("a", True, True), ("b", True, False)]


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6))
def test_a_version_compared_with_itself_has_no_flags(shares: list[float]) -> None:
    same = importance({str(index): share for index, share in enumerate(shares)})
    assert not any(shift.flagged for shift in shifts(same, same, LIMITS))
