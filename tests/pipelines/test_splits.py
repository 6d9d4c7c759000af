from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, islice

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from purgedcv import CombinatorialPurgedCV, WalkForwardSplit, purge
from purgedcv import PurgedKFold as OraclePurgedKFold
from purgedcv.diagnostics import assert_embargo_respected, assert_no_temporal_leakage
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score

from pipelines.errors import AmiralError, DataRefusedError, SettingsError
from pipelines.settings import load_settings
from pipelines.splits import NANOSECONDS_PER_HOUR as HOUR
from pipelines.splits import (
    CombinatorialPurgedKFold,
    IntervalError,
    LeakageError,
    PurgedKFold,
    PurgedWalkForward,
    assert_no_leakage,
    assert_no_leakage_in,
    embargo_ns,
    temporal_split,
    to_nanoseconds,
)

SPLITS = load_settings().splits

Intervals = tuple[np.ndarray, np.ndarray]
Folds = list[tuple[np.ndarray, np.ndarray]]


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


def folds_by_definition(start: np.ndarray, end: np.ndarray, blocks: int, chosen: int, embargo: int) -> Folds:
    """Every choice of test blocks, with all the training rows whose padded interval meets no test interval."""
    meets = (end[:, None] + embargo >= start) & (start[:, None] <= end + embargo)
    parts = np.array_split(np.arange(len(start)), blocks)
    tests = [np.concatenate(choice) for choice in combinations(parts, chosen)]
    return [(np.flatnonzero(~meets[:, test].any(axis=1)), test) for test in tests]


def same_folds(one: Folds, other: Folds) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a, b) for pair, twin in zip(one, other, strict=True) for a, b in zip(pair, twin, strict=True)
    )


@st.composite
def choices(draw: st.DrawFn) -> tuple[int, int]:
    blocks = draw(st.integers(2, 7))
    return blocks, draw(st.integers(1, blocks - 1))


def times(values: np.ndarray) -> pd.Series:
    return pd.Series(pd.to_datetime(values * HOUR, utc=True))


@given(intervals(), st.integers(1, 5), st.integers(0, 6))
@hypothesis_settings(deadline=None)
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
@hypothesis_settings(deadline=None)
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
@hypothesis_settings(deadline=None)
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
@hypothesis_settings(deadline=None)
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


@given(intervals(), choices(), st.integers(0, 12))
@hypothesis_settings(deadline=None)
def test_block_folds_are_those_of_the_definition(data: Intervals, choice: tuple[int, int], embargo: int) -> None:
    # Equality says both: no training row leaks, and no row was purged that could have stayed.
    start, end = data
    blocks, chosen = choice
    expected = folds_by_definition(start, end, blocks, chosen, embargo)
    splitters: list[PurgedKFold | CombinatorialPurgedKFold] = [CombinatorialPurgedKFold(blocks, chosen, start, end, embargo=embargo)]
    if chosen == 1:
        splitters.append(PurgedKFold(blocks, start, end, embargo=embargo))
    for splitter in splitters:
        assert splitter.get_n_splits() == len(expected)
        try:
            found = list(splitter.split(start))
        except DataRefusedError:
            assert any(not len(train) for train, _ in expected)
            continue
        assert same_folds(found, expected)
        assert_no_leakage_in(found, start, end, embargo=embargo)
        tested = np.bincount(np.concatenate([test for _, test in found]), minlength=len(start))
        assert (tested == math.comb(blocks - 1, chosen - 1)).all()


@given(intervals(), st.integers(1, 4), st.integers(0, 6), st.integers(1, 30))
@hypothesis_settings(deadline=None)
def test_a_sliding_window_holds_the_latest_surviving_rows(data: Intervals, folds: int, embargo: int, window: int) -> None:
    start, end = data
    try:
        expanding = list(PurgedWalkForward(folds, start, end, embargo=embargo).split(start))
    except DataRefusedError:
        return
    sliding = list(PurgedWalkForward(folds, start, end, embargo=embargo, max_train=window).split(start))
    assert same_folds(sliding, [(train[-window:], test) for train, test in expanding])
    assert_no_leakage_in(sliding, start, end, embargo=embargo)
    assert all(train.max() < test.min() for train, test in sliding)


@given(choices(), st.integers(7, 40))
@hypothesis_settings(deadline=None)
def test_each_path_covers_each_row_once(choice: tuple[int, int], size: int) -> None:
    blocks, chosen = choice
    start = np.arange(size)
    splitter = CombinatorialPurgedKFold(blocks, chosen, start, start)
    tests = [test for _, test in folds_by_definition(start, start, blocks, chosen, 0)]
    block_of = np.repeat(np.arange(blocks), [len(part) for part in np.array_split(start, blocks)])
    paths = splitter.paths()
    assert paths.shape == (splitter.n_paths, blocks) == (chosen * math.comb(blocks, chosen) // blocks, blocks)
    # A prediction that tells its split and its row.
    assembled = splitter.assemble([1000.0 * split + test for split, test in enumerate(tests)])
    assert np.array_equal(assembled, 1000.0 * paths[:, block_of] + np.arange(size))
    # Every block is taken from a split that tests it, and from each of those once.
    for block in range(blocks):
        assert set(paths[:, block]) == {split for split, test in enumerate(tests) if block in block_of[test]}
        assert len(set(paths[:, block])) == splitter.n_paths


def test_paths_of_the_book() -> None:
    # Lopez de Prado (2018), section 12.4, figure 12.2: N = 6, k = 2 makes 15 splits and 5 paths. "Path 1 is the
    # result of combining the forecasts from (G1, S1), (G2, S1), (G3, S2), (G4, S3), (G5, S4) and (G6, S5)", and so on.
    start = np.arange(6)
    splitter = CombinatorialPurgedKFold(6, 2, start, start)
    assert (splitter.n_splits, splitter.n_paths) == (15, 5)
    assert (splitter.paths()[:2] + 1).tolist() == [[1, 1, 2, 3, 4, 5], [2, 6, 6, 7, 8, 9]]


def test_missing_predictions_stay_in_their_path() -> None:
    start = np.arange(8)
    splitter = CombinatorialPurgedKFold(4, 2, start, start)
    predictions = [np.zeros(4) for _ in range(6)]
    predictions[1][:] = np.nan
    assert np.isnan(splitter.assemble(predictions)).tolist() == [
        [False] * 4 + [True] * 2 + [False] * 2,
        [True] * 2 + [False] * 6,
        [False] * 8,
    ]


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([np.zeros(4)] * 5, r"predictions of 5 split\(s\); expected 6"),
        ([np.zeros(4)] * 5 + [np.zeros(3)], r"predictions of split 5 have the shape \(3,\); expected \(4,\)"),
        ([np.zeros((4, 2))] * 6, r"predictions of split 0 have the shape \(4, 2\)"),
    ],
)
def test_predictions_of_another_shape_are_refused(predictions: list[np.ndarray], message: str) -> None:
    start = np.arange(8)
    with pytest.raises(DataRefusedError, match=message):
        CombinatorialPurgedKFold(4, 2, start, start).assemble(predictions)


def test_a_long_test_interval_purges_beyond_the_next_test_block() -> None:
    # Row 0 is open until 75: it outlasts the second test block (rows 4 and 5) and reaches training row 7.
    start = np.arange(10) * 10
    end = start + 1
    end[0] = 75
    _, (train, test) = islice(CombinatorialPurgedKFold(5, 2, start, end).split(start), 2)
    assert test.tolist() == [0, 1, 4, 5]
    assert train.tolist() == [8, 9]


def test_the_embargo_stands_on_both_sides_and_counts_the_weekend() -> None:
    hours = np.array([0, 10, 33, 34, 60, 61, 109, 110, 111, 140])
    start = hours * HOUR
    train, test = list(PurgedKFold(5, start, start + HOUR, embargo=24 * HOUR).split(start))[2]
    assert test.tolist() == [4, 5]  # from hour 60 to hour 62: an exit before 36 is clear, and a decision after 86
    assert train.tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    train, _ = list(PurgedKFold(5, start, start + HOUR, embargo=25 * HOUR).split(start))[2]
    assert train.tolist() == [0, 1, 2, 6, 7, 8, 9]  # row 3 leaves at 35, and 60 - 25 is not later than that
    train, _ = list(PurgedKFold(5, start, start + HOUR, embargo=48 * HOUR).split(start))[2]
    assert train.tolist() == [0, 1, 8, 9]  # row 7 is decided at 110, and 62 + 48 is not earlier than that


@given(intervals(40), choices(), st.integers(0, 6), st.integers(1, 20))
@hypothesis_settings(deadline=None)
def test_purgedcv_makes_the_same_folds(data: Intervals, choice: tuple[int, int], embargo: int, window: int) -> None:
    # Where its conventions agree with ours: its intervals are open on the right, so the end lies one step later;
    # its embargo stands after the test part only, while `purge_horizon` pads both sides, as our embargo does.
    # Where they differ besides: it yields folds without training rows, and we refuse them.
    start, end = data
    blocks, chosen = choice
    bound = {"prediction_times": times(start), "evaluation_times": times(end + 1), "purge_horizon": pd.Timedelta(hours=embargo)}
    oracle = CombinatorialPurgedCV(blocks, chosen, **bound)
    ours = CombinatorialPurgedKFold(blocks, chosen, start, end, embargo=embargo)
    expected = list(oracle.split(start))
    if all(len(train) for train, _ in expected):
        assert same_folds(list(ours.split(start)), expected)
    predictions = [1000.0 * split + test for split, (_, test) in enumerate(expected)]
    assert np.array_equal(ours.assemble(predictions), oracle.reconstruct_paths(predictions))
    pairs: list[tuple[PurgedKFold | PurgedWalkForward, OraclePurgedKFold | WalkForwardSplit]] = [
        (PurgedKFold(blocks, start, end, embargo=embargo), OraclePurgedKFold(blocks, **bound)),
        (
            PurgedWalkForward(blocks, start, end, embargo=embargo, max_train=window),
            WalkForwardSplit(blocks, len(start) // (blocks + 1), train_size=window, window="sliding", **bound),
        ),
    ]
    for splitter, twin in pairs:
        expected = list(twin.split(start))
        if all(len(train) for train, _ in expected):
            assert same_folds(list(splitter.split(start)), expected)


@given(intervals(40), choices(), st.integers(0, 6))
@hypothesis_settings(deadline=None)
def test_the_audits_of_purgedcv_find_nothing_in_combinatorial_folds(data: Intervals, choice: tuple[int, int], embargo: int) -> None:
    start, end = data
    try:
        ours = list(CombinatorialPurgedKFold(*choice, start, end, embargo=embargo).split(start))
    except DataRefusedError:
        return
    for train, test in ours:
        assert_no_temporal_leakage(train, test, times(start), times(end + 1))
        assert_embargo_respected(train, test, times(start), times(end), pd.Timedelta(hours=embargo))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=12, max_size=40), st.sampled_from(["s", "ms", "us", "ns"]))
@hypothesis_settings(deadline=None)
def test_the_zone_and_the_unit_of_the_times_do_not_matter(steps: list[tuple[int, int]], unit: str) -> None:
    # Around the end of summer time in New York, where one hour of wall-clock time comes twice.
    decided = pd.Timestamp("2024-11-03T02:00", tz="UTC") + pd.to_timedelta(np.cumsum([step for step, _ in steps]), unit="h")
    settled = decided + pd.to_timedelta([length for _, length in steps], unit="h")
    start, end = decided.as_unit("ns").asi8, settled.as_unit("ns").asi8
    local = [pd.Series(moments.tz_convert("America/New_York").as_unit(unit)) for moments in (decided, settled)]
    converted = [to_nanoseconds(series) for series in local]
    assert np.array_equal(converted, [start, end])
    embargo = 2 * HOUR
    makers: list[Callable[..., PurgedWalkForward | PurgedKFold]] = [PurgedWalkForward, PurgedKFold]
    for maker in makers:
        try:
            expected = list(maker(3, start, end, embargo=embargo).split(start))
        except DataRefusedError:
            with pytest.raises(DataRefusedError):
                list(maker(3, *converted, embargo=embargo).split(start))
            continue
        assert same_folds(list(maker(3, *converted, embargo=embargo).split(local[0])), expected)


def test_times_that_nanoseconds_cannot_hold_are_refused() -> None:
    with pytest.raises(IntervalError, match=r"row 1 has no time \(NaT\)"):
        to_nanoseconds(pd.Series(pd.to_datetime(["2024-01-01", None])))
    with pytest.raises(IntervalError, match="do not fit into nanoseconds; expected the years 1678 to 2261"):
        to_nanoseconds(np.array(["2024-01-01", "9999-12-31"], dtype="datetime64[s]"))
    assert to_nanoseconds(np.array(["1970-01-01T01"], dtype="datetime64[h]")).tolist() == [HOUR]


def test_the_audit_of_a_splitter_names_the_fold() -> None:
    start = np.arange(12) * HOUR
    end = start + HOUR // 2
    assert_no_leakage_in(KFold(3).split(start), start, end)
    with pytest.raises(LeakageError, match=r"fold 0: training row 4 .* meets test row 3"):
        assert_no_leakage_in(KFold(3).split(start), start, end, embargo=HOUR)
    good = list(PurgedKFold(3, start, end, embargo=HOUR).split(start))
    assert_no_leakage_in(good, start, end, embargo=HOUR)
    train, test = good[2]
    with pytest.raises(LeakageError, match=r"fold 2: training row 9 .* meets test row 8"):
        assert_no_leakage_in([*good[:2], (np.append(train, test[1]), test)], start, end, embargo=HOUR)


def test_an_audit_of_nothing_does_not_pass() -> None:
    start = np.arange(12) * HOUR
    with pytest.raises(DataRefusedError, match="there are no folds to audit"):
        assert_no_leakage_in(iter(()), start, start)
    nothing = np.empty(0, dtype=np.int64)
    with pytest.raises(DataRefusedError, match="fold 1 has 0 training and 3 test rows"):
        assert_no_leakage_in([(np.array([0]), np.array([5])), (nothing, np.arange(3))], start, start)


NAT = np.iinfo(np.int64).min


def bad_intervals() -> dict[str, tuple[np.ndarray, np.ndarray, str]]:
    start = np.arange(12) * HOUR
    end = start + HOUR
    reversed_end, missing_start, missing_end, sentinel = end.copy(), start.copy(), end.copy(), end.copy()
    reversed_end[3] = start[3] - 1
    missing_start[0] = missing_end[4] = NAT
    sentinel[2] = np.iinfo(np.int64).max
    return {
        "end before start": (start, reversed_end, r"row 3 ends at 1970-01-01T02:59:59.999999999\+00:00, before it starts"),
        "no start": (missing_start, end, r"row 0 has no start \(NaT\); expected a time in every row; remedy: leave"),
        "no end": (start, missing_end, r"row 4 has no end \(NaT\)"),
        "an open trade": (start, sentinel, "2262.* with an embargo of 1 h.*give open trades no sentinel"),
        "other units": (
            start.astype("datetime64[ns]"),
            end.astype("datetime64[ns]"),
            r"start is a ndarray of datetime64\[ns\].*to_nanoseconds",
        ),
        "a series": (pd.Series(start), end, "start is a Series of int64"),
        "two lengths": (start, end[1:], r"start \(12,\) and end \(11,\)"),
    }


@pytest.mark.parametrize("case", bad_intervals())
def test_bad_intervals_are_refused_everywhere(case: str) -> None:
    start, end, message = bad_intervals()[case]
    rows = np.arange(12)
    for splitter in (
        PurgedWalkForward(2, start, end, embargo=HOUR),
        PurgedKFold(3, start, end, embargo=HOUR),
        CombinatorialPurgedKFold(4, 2, start, end, embargo=HOUR),
    ):
        with pytest.raises(IntervalError, match=message):
            list(splitter.split(rows))
    # The same intervals must not slip through an audit: rows 0 to 4 and 11 are far apart, the audit would see no leak.
    with pytest.raises(IntervalError, match=message):
        assert_no_leakage(rows[:5], rows[11:], start, end, embargo=HOUR)
    with pytest.raises(IntervalError, match=message):
        assert_no_leakage_in([(rows[:5], rows[11:])], start, end, embargo=HOUR)


def test_splitters_want_sorted_times_and_the_audit_does_not() -> None:
    start = np.array([0, 20, 10, 30])
    for splitter in (PurgedWalkForward(1, start, start), PurgedKFold(2, start, start), CombinatorialPurgedKFold(3, 2, start, start)):
        with pytest.raises(IntervalError, match=r"row 2 starts at .* before the row above it"):
            list(splitter.split(start))
    assert_no_leakage_in([(np.array([0, 2]), np.array([1, 3]))], start, start + 5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.array([True, False, True]), "train holds bool .* np.flatnonzero makes positions of a mask"),
        (np.array([-1]), "row positions from -1 to -1; expected 0 to 2"),
        (np.array([3]), "row positions from 3 to 3"),
    ],
)
def test_the_audit_wants_row_positions(rows: np.ndarray, message: str) -> None:
    start = np.arange(3)
    with pytest.raises(IntervalError, match=message):
        assert_no_leakage(rows, np.array([1]), start, start)


@pytest.mark.parametrize(
    ("embargo", "message"),
    [(-1, "0 or more"), (24.5, "an embargo of 24.5; expected a whole number of nanoseconds"), (10**19, "an embargo of 2.77778e\\+06 h")],
)
def test_an_unusable_embargo_is_refused(embargo: float, message: str) -> None:
    start = np.arange(12) * HOUR
    for splitter in (PurgedWalkForward, PurgedKFold):
        with pytest.raises(IntervalError, match=message):
            list(splitter(2, start, start, embargo=embargo).split(start))
    with pytest.raises(IntervalError, match=message):
        assert_no_leakage(start[:1], start[:1], start, start, embargo=embargo)


def test_an_embargo_longer_than_the_data_is_refused() -> None:
    start = np.arange(12) * HOUR
    for splitter in (PurgedKFold(3, start, start, embargo=11 * HOUR), CombinatorialPurgedKFold(3, 2, start, start, embargo=11 * HOUR)):
        with pytest.raises(DataRefusedError, match=r"an embargo of 11 h leaves every fold without .* within 11 h.*shorten the embargo"):
            list(splitter.split(start))
    # A fold alone can run empty as well; it is named, never yielded.
    with pytest.raises(DataRefusedError, match=r"split 1 of 3, which tests block\(s\) 1 of 0 to 2, keeps none of 8 .* 5 h away"):
        list(PurgedKFold(3, start, start, embargo=5 * HOUR).split(start))
    with pytest.raises(DataRefusedError, match=r"tests block\(s\) 0, 2 of 0 to 2, keeps none of 4"):
        list(CombinatorialPurgedKFold(3, 2, start, start, embargo=3 * HOUR).split(start))


def test_fewer_rows_than_blocks_are_refused() -> None:
    start = np.arange(3) * HOUR
    for splitter in (PurgedKFold(4, start, start), CombinatorialPurgedKFold(4, 2, start, start)):
        with pytest.raises(DataRefusedError, match=r"3 trade\(s\) for 4 blocks; expected at least one"):
            list(splitter.split(start))
    nothing = np.empty(0, dtype=np.int64)
    with pytest.raises(DataRefusedError, match=r"0 trade\(s\) for 2 blocks"):
        list(PurgedKFold(2, nothing, nothing).split(nothing))
    with pytest.raises(IntervalError, match="X has 2 rows, the label intervals 3"):
        list(PurgedKFold(2, start, start).split(start[:2]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t: PurgedKFold(1, t, t), r"1 fold\(s\); expected at least 2"),
        (lambda t: PurgedWalkForward(2, t, t, max_train=0), "a sliding window of 0 training rows; expected at least 1"),
        (lambda t: CombinatorialPurgedKFold(1, 1, t, t), r"1 block\(s\); expected at least 2"),
        (lambda t: CombinatorialPurgedKFold(4, 4, t, t), r"4 test block\(s\) of 4; expected 1 to 3.*lower n_test_blocks"),
        (lambda t: CombinatorialPurgedKFold(4, 0, t, t), r"0 test block\(s\) of 4"),
        (
            lambda t: CombinatorialPurgedKFold(16, 8, t, t),
            "8 test blocks of 16 make 12,870 splits; expected at most 1,000, because every split costs a fit.*raise max_splits",
        ),
        (lambda t: CombinatorialPurgedKFold(1_000_000, 500_000, t, t), "500000 test blocks of 1000000 make more than 1e301026 splits"),
    ],
)
def test_impossible_numbers_are_refused_at_once(make: Callable[[np.ndarray], object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make(np.arange(12))


def test_the_cap_on_splits_can_be_raised() -> None:
    start = np.arange(16)
    assert CombinatorialPurgedKFold(16, 8, start, start, max_splits=12_870).n_paths == 6_435


def test_bad_input_is_both_a_refusal_and_a_value_error() -> None:
    assert issubclass(IntervalError, AmiralError)
    assert issubclass(IntervalError, ValueError)


def test_scikit_learn_accepts_the_block_splitters() -> None:
    start = np.arange(60) * HOUR
    X, y = np.zeros((60, 1)), np.arange(60) % 2
    folds = PurgedKFold(4, start, start + HOUR)
    assert cross_val_predict(DummyClassifier(), X, y, cv=folds).shape == (60,)
    pairs = CombinatorialPurgedKFold(5, 2, start, start + HOUR)
    assert len(cross_val_score(DummyClassifier(), X, y, cv=pairs)) == 10
    search = GridSearchCV(DummyClassifier(), {"strategy": ["prior", "most_frequent"]}, cv=pairs).fit(X, y)
    assert search.n_splits_ == 10
