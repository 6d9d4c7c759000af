from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contracts.base import ContractError
from pipelines.errors import SettingsError
from pipelines.settings import Weights, load_settings
from pipelines.splits import PurgedWalkForward
from pipelines.weights import average_uniqueness, sample_weights, time_decay

Intervals = tuple[np.ndarray, np.ndarray]

DEFAULT = load_settings().weights
YEAR = 365 * 86_400 * 10**9
NOW = 1_700_000_000_123_456_789


def settings(*, uniqueness: bool = True, time_decay: float = 1.0) -> Weights:
    return Weights(uniqueness=uniqueness, time_decay=time_decay)


@st.composite
def intervals(draw: st.DrawFn, smallest: int = 1) -> Intervals:
    """Label intervals on a small grid: many ties, many of no length."""
    count = draw(st.integers(smallest, 12))
    start = np.array(draw(st.lists(st.integers(0, 15), min_size=count, max_size=count)), dtype=np.int64)
    length = np.array(draw(st.lists(st.integers(0, 8), min_size=count, max_size=count)), dtype=np.int64)
    return start, start + length


def oracle(start: np.ndarray, end: np.ndarray) -> list[float]:
    """The definition, unit step by unit step, in fractions: every border lies on the grid."""

    def holding(moment: Fraction) -> int:
        return sum(int(s) <= moment <= int(e) for s, e in zip(start, end, strict=True))

    half = Fraction(1, 2)
    values = []
    for begin, finish in zip(start.tolist(), end.tolist(), strict=True):
        moments = [step + half for step in range(begin, finish)] or [Fraction(begin)]
        values.append(float(sum(Fraction(1, holding(moment)) for moment in moments) / len(moments)))
    return values


@given(intervals())
def test_uniqueness_is_the_definition(data: Intervals) -> None:
    np.testing.assert_allclose(average_uniqueness(*data), oracle(*data), rtol=1e-14)


def test_uniqueness_by_hand() -> None:
    """[0, 4] is alone for 1 of 4, one of two for 2 and one of three for 1; [3, 3] is an instant that three hold."""
    start, end = np.array([0, 1, 3, 3, 20]), np.array([4, 3, 9, 3, 20])
    expected = [(1 + 2 / 2 + 1 / 2) / 4, 1 / 2, (1 / 2 + 5) / 6, 1 / 4, 1.0]
    np.testing.assert_allclose(average_uniqueness(start, end), expected)


@given(st.integers(1, 9), st.integers(0, 5), st.integers(1, 5))
def test_as_many_as_share_an_interval_share_its_weight(count: int, length: int, times: int) -> None:
    start = np.repeat(np.arange(times) * 10, count)
    np.testing.assert_allclose(average_uniqueness(start, start + length), 1.0 / count)


def test_trades_that_only_touch_are_unique() -> None:
    start = np.arange(6) * 7
    np.testing.assert_array_equal(average_uniqueness(start, start + 7), 1.0)


@given(intervals(), st.integers(-(10**18), 10**18), st.integers(1, 10**9))
def test_neither_the_origin_nor_the_unit_of_time_matters(data: Intervals, shift: int, scale: int) -> None:
    start, end = data
    moved = average_uniqueness(start * scale + shift, end * scale + shift)
    np.testing.assert_allclose(moved, average_uniqueness(start, end), rtol=1e-12)


def test_nanoseconds_survive_ten_years() -> None:
    """Three labels of one to three nanoseconds after ten years of long ones: each gets its exact share."""
    rng = np.random.default_rng(0)
    start = NOW - 10 * YEAR + rng.integers(0, 9 * YEAR, 20_000)
    end = start + rng.integers(0, YEAR // 1000, 20_000)
    start, end = np.append(start, [NOW, NOW, NOW + 1]), np.append(end, [NOW + 1, NOW + 3, NOW + 3])
    np.testing.assert_allclose(average_uniqueness(start, end)[-3:], [1 / 2, (3 / 2) / 3, 1 / 2], rtol=1e-9)


@given(intervals(), st.booleans(), st.floats(0.05, 1.0), st.randoms(use_true_random=False))
def test_weights_are_positive_have_mean_one_and_follow_their_rows(
    data: Intervals, uniqueness: bool, decay: float, shuffler: object
) -> None:
    start, end = data
    chosen = settings(uniqueness=uniqueness, time_decay=decay)
    weights = sample_weights(start, end, chosen)
    assert weights.shape == start.shape
    assert (weights > 0).all()
    assert weights.mean() == pytest.approx(1.0)
    order = np.arange(len(start))
    shuffler.shuffle(order)  # type: ignore[attr-defined]
    np.testing.assert_allclose(sample_weights(start[order], end[order], chosen), weights[order], rtol=1e-12)


@given(intervals(smallest=2), st.floats(0.05, 1.0))
def test_later_trades_decay_less(data: Intervals, oldest: float) -> None:
    start, end = data
    decay = sample_weights(start, end, settings(uniqueness=False, time_decay=oldest))
    by_start = np.argsort(start, kind="stable")
    assert (np.diff(decay[by_start]) >= 0).all()
    assert (np.diff(decay[by_start])[np.diff(start[by_start]) == 0] == 0).all()
    if start.min() < start.max():
        assert decay.min() / decay.max() == pytest.approx(oldest)
    else:
        np.testing.assert_allclose(decay, 1.0)


@given(intervals(), st.floats(0.05, 1.0))
def test_uniqueness_and_age_multiply(data: Intervals, oldest: float) -> None:
    start, end = data
    both = sample_weights(start, end, settings(time_decay=oldest))
    product = sample_weights(start, end, settings(uniqueness=False, time_decay=oldest)) * average_uniqueness(start, end)
    np.testing.assert_allclose(both, product / product.mean(), rtol=1e-12)


def test_a_crowd_ages_by_what_it_teaches() -> None:
    """Ten trades at once move the clock as far as one alone: the three moments are equally far apart."""
    start = np.array([0] + [10] * 10 + [20])
    decay = sample_weights(start, start + 5, settings(uniqueness=False, time_decay=0.5))
    np.testing.assert_allclose(decay[[0, 1, 10, 11]] / decay[11], [0.5, 0.75, 0.75, 1.0])
    # Uniqueness 1, 3/4, 1/2 and 1: the steps of the line are 0.75, 0.5 and 1 of 2.25.
    start, end = np.array([0, 10, 15, 30]), np.array([5, 20, 20, 31])
    decay = sample_weights(start, end, settings(uniqueness=False, time_decay=0.1))
    np.testing.assert_allclose(decay / decay[3], [0.1, 0.1 + 0.9 * 0.75 / 2.25, 0.1 + 0.9 * 1.25 / 2.25, 1.0])


def test_the_decay_is_a_straight_line_over_cumulated_uniqueness() -> None:
    np.testing.assert_allclose(time_decay(np.array([1.0, 0.5, 0.5, 1.0]), 0.2), [0.2, 0.4, 0.6, 1.0])
    np.testing.assert_array_equal(time_decay(np.array([0.3, 0.2, 0.9]), 1.0), 1.0)


def test_without_uniqueness_and_decay_all_count_the_same() -> None:
    start = np.array([0, 1, 1, 5])
    np.testing.assert_array_equal(sample_weights(start, start + 9, settings(uniqueness=False)), 1.0)


def test_a_fold_weighs_by_its_own_rows_only() -> None:
    """What comes after the fold, or is purged from it, changes no weight."""
    rng = np.random.default_rng(2)
    start = np.sort(rng.integers(0, 1000, 300))
    end = start + rng.integers(0, 40, 300)
    chosen = settings(time_decay=0.5)
    train, _ = next(PurgedWalkForward(2, start, end, embargo=5).split(start))
    weights = sample_weights(start[train], end[train], chosen)
    assert not np.allclose(weights, sample_weights(start, end, chosen)[train])
    later = start.copy(), end.copy()
    for times in later:
        times[len(train) + 60 :] += 5000
    again, _ = next(PurgedWalkForward(2, *later, embargo=5).split(start))
    assert np.array_equal(train, again)
    np.testing.assert_array_equal(weights, sample_weights(later[0][again], later[1][again], chosen))


def test_few_rows() -> None:
    nothing = np.empty(0, dtype=np.int64)
    assert average_uniqueness(nothing, nothing).shape == (0,)
    assert time_decay(np.empty(0), 0.5).shape == (0,)
    assert sample_weights(nothing, nothing, DEFAULT).shape == (0,)
    assert sample_weights(np.array([NOW]), np.array([NOW]), settings(time_decay=0.3)).tolist() == [1.0]


def test_a_label_that_ends_before_it_starts_is_refused() -> None:
    start, end = np.full(3, NOW), np.array([NOW, NOW + 9, NOW - 60_000_000_000])
    found = r"label interval 2 ends at 2023-11-14T22:12:20.*, before it starts at 2023-11-14T22:13:20.*; 1 interval"
    message = found + r".*; expected end >= start; remedy: mend"
    for function in (average_uniqueness, lambda s, e: sample_weights(s, e, DEFAULT)):
        with pytest.raises(ContractError, match=message):
            function(start, end)
    with pytest.raises(ValueError, match=r"start \(3,\) and end \(2,\)"):
        average_uniqueness(start, end[:2])


@pytest.mark.parametrize("oldest", [0.0, -0.5, 1.5, float("nan")])
def test_a_decay_that_would_drop_or_flip_weights_is_refused(oldest: float) -> None:
    with pytest.raises(SettingsError, match=rf"time decay {oldest:g}; expected above 0 and at most 1; remedy: change weights.time_decay"):
        time_decay(np.ones(3), oldest)
