from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from purgedcv import purge
from purgedcv.diagnostics import assert_embargo_respected, assert_no_temporal_leakage
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import cross_val_score

from pipelines.errors import DataRefusedError
from pipelines.settings import load_settings
from pipelines.splits import NANOSECONDS_PER_HOUR as HOUR
from pipelines.splits import LeakageError, PurgedWalkForward, assert_no_leakage, embargo_ns, temporal_split

SPLITS = load_settings().splits

Intervals = tuple[np.ndarray, np.ndarray]


@st.composite
def intervals(draw: st.DrawFn, largest: int = 60) -> Intervals:
    """Sorted label intervals with ties, of very different lengths."""
    count = draw(st.integers(12, largest))
    start = np.cumsum(draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)))
    length = draw(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 80)), min_size=count, max_size=count))
    return start.astype(np.int64), (start + length).astype(np.int64)


def leaks(train: np.ndarray, test: np.ndarray, start: np.ndarray, end: np.ndarray, embargo: int) -> bool:
    """The definition, pair by pair."""
    return any(end[i] + embargo >= start[j] and start[i] <= end[j] + embargo for i in train for j in test)


def times(values: np.ndarray) -> pd.Series:
    return pd.Series(pd.to_datetime(values * HOUR, utc=True))


@given(intervals(), st.integers(1, 5), st.integers(0, 6))
def test_no_fold_leaks(data: Intervals, folds: int, embargo: int) -> None:
    start, end = data
    splitter = PurgedWalkForward(folds, start, end, embargo=embargo)
    try:
        parts = list(splitter.split(start))
    except DataRefusedError:
        return
    assert len(parts) == folds
    for train, test in parts:
        assert_no_leakage(train, test, start, end, embargo=embargo)
        assert not leaks(train, test, start, end, embargo)
        assert train.max() < test.min()
        # Nothing is dropped without need.
        dropped = np.setdiff1d(np.arange(test[0]), train)
        assert all(end[row] >= start[test[0]] - embargo for row in dropped)
    tested = np.concatenate([test for _, test in parts])
    assert np.array_equal(tested, np.arange(tested[0], len(start)))


@given(intervals(), st.integers(0, 6))
def test_no_part_of_the_temporal_split_leaks(data: Intervals, embargo_hours: int) -> None:
    start, end = data[0] * HOUR, data[1] * HOUR
    settings = SPLITS.model_copy(update={"embargo_hours": float(embargo_hours)})
    try:
        split = temporal_split(start, end, settings)
    except DataRefusedError:
        return
    embargo = embargo_ns(settings)
    for earlier, later in (
        (split.train, split.validation),
        (split.train, split.test),
        (split.validation, split.test),
        (split.development, split.test),
    ):
        assert_no_leakage(earlier, later, start, end, embargo=embargo)
        assert not len(earlier) or not len(later) or earlier.max() < later.min()
    assert set(split.train) | set(split.validation) <= set(split.development)


@given(intervals(), st.integers(0, 3), st.data())
def test_the_audit_finds_exactly_the_leaks_of_the_definition(data: Intervals, embargo: int, draw: st.DataObject) -> None:
    start, end = data
    order = np.array(draw.draw(st.permutations(range(len(start)))))
    cut = draw.draw(st.integers(1, len(start) - 1))
    train, test = order[:cut], order[cut:]
    if leaks(train, test, start, end, embargo):
        with pytest.raises(LeakageError):
            assert_no_leakage(train, test, start, end, embargo=embargo)
    else:
        assert_no_leakage(train, test, start, end, embargo=embargo)


@given(intervals(), st.integers(1, 4))
def test_purgedcv_finds_no_leak_and_keeps_no_row_less(data: Intervals, folds: int) -> None:
    # purgedcv's intervals are open on the right; ours are closed, so its end lies one step later.
    start, end = data
    try:
        parts = list(PurgedWalkForward(folds, start, end).split(start))
    except DataRefusedError:
        return
    decided, settled = times(start), times(end + 1)
    for train, test in parts:
        assert_no_temporal_leakage(train, test, decided, settled)
        earlier = np.arange(test[0])
        assert np.array_equal(train, purge(earlier, test, decided, settled))


def test_the_embargo_of_purgedcv_is_respected() -> None:
    start = np.arange(60)
    for train, test in PurgedWalkForward(3, start, start + 2, embargo=5).split(start):
        assert_embargo_respected(train, test, times(start), times(start + 3), pd.Timedelta(hours=5))
        assert train[-1] == test[0] - 8  # ends 2 after its start, and the end must be more than 5 before the test


def test_an_interval_that_touches_the_border_is_dropped() -> None:
    start = np.array([0, 10, 20, 30])
    (train, test), *_ = PurgedWalkForward(1, start, np.array([19, 20, 25, 35])).split(start)
    assert (train.tolist(), test.tolist()) == ([0], [2, 3])


def test_a_weekend_counts_for_the_embargo() -> None:
    # Friday 20:00 to Sunday 23:00 UTC are 51 hours; Friday's trades survive the 24 h embargo before Sunday.
    start = np.array(
        [
            np.datetime64(text, "ns").astype(np.int64)
            for text in ("2024-03-08T19:00", "2024-03-08T20:00", "2024-03-10T23:00", "2024-03-11T01:00")
        ]
    )
    (train, _), *_ = PurgedWalkForward(1, start, start + HOUR, embargo=24 * HOUR).split(start)
    assert train.tolist() == [0, 1]


def test_shares_of_the_temporal_split() -> None:
    start = np.arange(1000) * 48 * HOUR
    split = temporal_split(start, start + HOUR, SPLITS)
    assert (len(split.train), len(split.validation), len(split.test)) == (700, 100, 200)
    assert split.test.tolist() == list(range(800, 1000))


def test_a_long_early_test_interval_is_not_hidden_by_a_short_later_one() -> None:
    start, end = np.array([0, 50, 60]), np.array([100, 51, 70])
    with pytest.raises(LeakageError, match=r"training row 2 .* meets test row 0"):
        assert_no_leakage(np.array([2]), np.array([0, 1]), start, end)
    assert_no_leakage(np.array([2]), np.array([1]), start, end, embargo=8)
    with pytest.raises(LeakageError):
        assert_no_leakage(np.array([2]), np.array([1]), start, end, embargo=9)


def test_the_audit_names_the_pair_and_the_remedy() -> None:
    start = np.array([0, 10, 20]) * HOUR
    with pytest.raises(LeakageError) as error:
        assert_no_leakage(np.array([0, 1]), np.array([2]), start, start + np.array([5, 12, 5]) * HOUR, embargo=2 * HOUR)
    text = str(error.value)
    assert "training row 1 [1970-01-01T10:00:00+00:00, 1970-01-01T22:00:00+00:00] meets test row 2" in text
    assert "more than 2 h" in text
    assert "purge the training rows" in text


def test_a_fold_without_training_rows_is_refused_with_its_number() -> None:
    start = np.arange(12) * HOUR
    with pytest.raises(DataRefusedError, match=r"fold 1 of 3 keeps none of 3 training trades.*24 h.*lower splits.folds"):
        list(PurgedWalkForward(3, start, start + HOUR, embargo=24 * HOUR).split(start))


def test_too_little_data_is_refused() -> None:
    with pytest.raises(DataRefusedError, match=r"1 trade\(s\) cannot be cut"):
        temporal_split(np.array([0]), np.array([1]), SPLITS)
    start = np.arange(10) * HOUR
    with pytest.raises(DataRefusedError, match="purging leaves none of 7 training trades"):
        temporal_split(start, start + HOUR, SPLITS)


def test_unsorted_and_reversed_intervals_are_refused() -> None:
    with pytest.raises(ValueError, match=r"row 1 starts at .* before the row above it"):
        temporal_split(np.array([5, 0]), np.array([6, 7]), SPLITS)
    with pytest.raises(ValueError, match=r"row 0 ends at .*, before it starts"):
        temporal_split(np.array([5, 6]), np.array([4, 7]), SPLITS)
    with pytest.raises(ValueError, match="X has 3 rows, the label intervals 2"):
        list(PurgedWalkForward(1, np.array([0, 9]), np.array([1, 10])).split(np.zeros(3)))


def test_scikit_learn_accepts_the_splitter() -> None:
    start = np.arange(60) * HOUR
    y = np.arange(60) % 2
    folds = PurgedWalkForward(4, start, start + HOUR)
    assert folds.get_n_splits() == 4
    assert len(cross_val_score(DummyClassifier(), np.zeros((60, 1)), y, cv=folds)) == 4
