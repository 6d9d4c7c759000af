"""The quality report: grades, flags and the gate, on data whose faults are planted."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.contracts.tables import OutcomeTable, SignalTable, Trades
from pipelines.errors import DataRefusedError
from pipelines.quality import Check, QualityReport, assess, refuse_if_corrupted
from pipelines.settings import load_settings
from tests.factories import make_trades

SETTINGS = load_settings()
NAMES = tuple("abcd")
COUNTS = {
    "records": 200,
    "duplicates": 0,
    "refused": 0,
    "store": {"faulty_pairs": 0, "open_signals": 0, "orphan_outcomes": 0},
}


def features(rows: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(rows, len(NAMES)))


def changed(trades: Trades, *, signals: dict[str, object] | None = None, outcomes: dict[str, object] | None = None) -> Trades:
    """The trades with whole columns replaced."""
    frame = trades.signals.frame.assign(**(signals or {}))
    closed = trades.outcomes.frame.assign(**(outcomes or {}))
    return Trades(SignalTable.of(frame, trades.signals.bars, trades.signals.clusters), OutcomeTable.of(closed))


def judge(trades: Trades, values: np.ndarray | None = None, **counts: int) -> QualityReport:
    values = features(len(trades)) if values is None else values
    return assess(trades, values, NAMES, COUNTS | counts, SETTINGS)


def check(report: QualityReport, name: str) -> Check:
    (found,) = [row for row in report.checks if row.name == name]
    return found


@pytest.mark.parametrize(
    ("missing", "duplicates", "grade"),
    [
        (0, 0, "excellent"),
        (19, 1, "excellent"),  # 4.75 % of 400 values, 0.5 % of 200 records
        (20, 1, "good"),  # 5 % is no longer excellent
        (0, 2, "good"),  # nor is 1 %
        (40, 0, "acceptable"),
        (0, 10, "acceptable"),
        (80, 0, "poor"),
        (0, 40, "poor"),
        (160, 0, "corrupted"),
        (0, 80, "corrupted"),
    ],
)
def test_grade_by_missing_and_duplicate_share(missing: int, duplicates: int, grade: str) -> None:
    values = features(100)
    values.ravel()[:missing] = np.nan
    report = judge(make_trades(100), values, duplicates=duplicates)
    assert report.grade == grade
    assert report.missing_share == missing / 400
    assert report.duplicate_share == duplicates / 200


@given(missing=st.integers(0, 400), duplicates=st.integers(0, 200), more=st.integers(0, 50))
def test_worse_data_never_get_a_better_grade(missing: int, duplicates: int, more: int) -> None:
    order = ("excellent", "good", "acceptable", "poor", "corrupted")
    ranks = []
    for extra in (0, more):
        values = features(100)
        values.ravel()[: missing + extra] = np.nan
        ranks.append(order.index(judge(TRADES, values, duplicates=min(duplicates + extra, 200)).grade))
    assert ranks[0] <= ranks[1]


TRADES = make_trades(100)


def test_only_corrupted_data_stop_a_run_and_the_reason_is_said() -> None:
    values = features(100)
    values[:60, 1] = np.nan
    values[:, 2] = np.nan
    values[:70, 3] = np.nan
    report = judge(make_trades(100), values, duplicates=90)
    with pytest.raises(DataRefusedError) as caught:
        refuse_if_corrupted(report)
    text = str(caught.value)
    for part in (
        "43.3% of the values of 3 feature(s) with a feed are missing: d 70.0%, b 60.0%",
        "45.0% of records are copies",
        "< 0.4",
        "quality.poor",
    ):
        assert part in text
    values[:, 1] = 0.5
    refuse_if_corrupted(judge(make_trades(100), values, duplicates=79))


def test_features_without_a_feed_are_listed_and_do_not_count() -> None:
    values = features(100)
    values[:, [0, 2, 3]] = np.nan
    values[:19, 1] = np.nan
    report = judge(TRADES, values)
    assert (report.grade, report.missing_share, report.absent_features) == ("acceptable", 0.19, ("a", "c", "d"))
    row = check(report, "feed absent")
    assert (row.value, row.ok, row.note) == (3, False, "a, c, d; not part of the missing share")
    assert check(report, "missing share").note == "19.0% of the values of 1 feature(s) with a feed are missing: b 19.0%"
    assert check(judge(TRADES), "feed absent") == Check("feed absent", 0, "0", ok=True, note="every feature has values")


def test_one_value_is_a_feed() -> None:
    values = features(100)
    values[1:, 0] = np.nan
    report = judge(TRADES, values)
    assert (report.absent_features, report.missing_share) == ((), 99 / 400)


def test_without_any_feed_the_data_are_corrupted() -> None:
    report = judge(TRADES, np.full((100, 4), np.nan))
    assert (report.grade, report.missing_share, report.absent_features) == ("corrupted", 1.0, NAMES)
    with pytest.raises(DataRefusedError, match=r"data quality is corrupted: no feature has a value; expected missing share < 0.4"):
        refuse_if_corrupted(report)


def test_a_signal_recorded_after_its_exit_is_flagged() -> None:
    trades = make_trades(4)
    exits = trades.outcomes.frame["exit_time"]
    recorded = trades.signals.frame["recorded_at"].copy()
    recorded[1] = exits[1]
    recorded[2] = exits[2] + pd.Timedelta("1us")
    report = judge(changed(trades, signals={"recorded_at": recorded}))
    row = check(report, "signals recorded after their exit")
    assert (row.value, row.ok, report.suspicious["signal_after_exit"], report.trades) == (1, False, 1, 4)
    assert check(judge(trades), "signals recorded after their exit").ok


def test_no_trades_is_a_message() -> None:
    report = judge(make_trades(0))
    assert (report.grade, report.trades, report.span) == ("empty", 0, None)
    with pytest.raises(DataRefusedError, match="0 closed trades; expected at least 1; remedy: ingest signals together with"):
        refuse_if_corrupted(report)


def test_a_replay_has_no_counts() -> None:
    report = assess(make_trades(5), features(5), NAMES, {}, SETTINGS)
    assert report.duplicate_share == 0.0
    assert "lines in quarantine" not in {row.name for row in report.checks}


def test_the_report_is_json() -> None:
    content = judge(make_trades(30)).to_dict()
    assert json.loads(json.dumps(content, allow_nan=False))["trades"] == 30
    assert set(content["checks"][0]) == {"name", "value", "limit", "ok", "note"}


def test_constant_features_are_named() -> None:
    values = features(50)
    values[:, 0] = 0.5
    values[10:, 2] = 7.0
    values[:10, 2] = np.nan
    values[:, 3] = np.nan
    report = judge(make_trades(50), values)
    assert report.constant_features == ("a", "c")  # d has no value, which another row says
    assert report.feature_missing == {"a": 0.0, "b": 0.0, "c": 0.2, "d": 1.0}
    assert not check(report, "constant features").ok
    assert judge(make_trades(1)).constant_features == ()


def test_days_without_a_trade_are_trading_days_only() -> None:
    # Fri 12 Jan 2024; Mon 15 is Martin Luther King day; Tue 16 has a trade on the evening before
    # (18:30 New York belongs to the 16th); Wed 17 has none; Thu 18.
    moments = pd.to_datetime(["2024-01-12T15:00Z", "2024-01-15T23:30Z", "2024-01-18T15:00Z"], utc=True).as_unit("us")
    report = judge(changed(make_trades(3), signals={"decision_time": moments}))
    assert report.gap_days == ("2024-01-17",)
    assert check(report, "days without a trade").note == "2024-01-17"
    assert report.span == ("2024-01-12T15:00:00+00:00", "2024-01-18T15:00:00+00:00")


def test_days_before_the_calendar_are_weekdays() -> None:
    moments = pd.to_datetime(["1990-01-05T15:00Z", "1990-01-09T15:00Z"], utc=True).as_unit("us")  # Friday, Tuesday
    assert judge(changed(make_trades(2), signals={"decision_time": moments})).gap_days == ("1990-01-08",)


def test_stale_option_levels() -> None:
    trades = make_trades(8)
    asof = trades.signals.frame["decision_time"] - pd.to_timedelta([0, 600, 601, 5000, 10, 0, 0, 0], unit="s")
    asof[7] = pd.NaT
    report = judge(changed(trades, signals={"market_structure.options_asof": asof}))
    assert report.stale_options_share == pytest.approx(2 / 7)
    assert not check(report, "stale option levels").ok
    none = judge(changed(trades, signals={"market_structure.options_asof": pd.Series([pd.NaT] * 8, dtype="datetime64[us, UTC]")}))
    assert none.stale_options_share is None
    assert check(none, "stale option levels").ok


def test_label_balance() -> None:
    trades = make_trades(20)
    report = judge(changed(trades, outcomes={"net_pnl": [1.0] * 19 + [-1.0]}))
    assert report.profitable_share == 0.95
    assert not check(report, "profitable share").ok
    assert check(judge(changed(trades, outcomes={"net_pnl": [1.0] * 18 + [0.0, -1.0]})), "profitable share").ok


def test_suspicious_trades_are_reported_and_kept() -> None:
    trades = make_trades(5)
    entry = trades.outcomes.frame["entry_time"]
    odd = changed(
        trades,
        outcomes={
            "realized_r": [10.0, -10.1, 11.0, 0.5, 0.0],
            "pnl_ticks": [50.0, -50.25, 51.0, 900.0, 1.0],
            "exit_time": entry + pd.to_timedelta([1, 0, 86_400, 86_401, 60], unit="s"),
        },
    )
    report = judge(odd)
    assert report.suspicious == {"risk_multiple": 2, "pnl_ticks": 3, "too_short": 1, "too_long": 1, "signal_after_exit": 0}
    assert report.trades == 5
    assert not check(report, "|R| too large").ok
    assert check(report, "|PnL| too large").ok  # distances in ATR: a large move is no fault
    in_ticks = SETTINGS.model_copy(update={"baseline": SETTINGS.baseline.model_copy(update={"scale": "ticks"})})
    assert not check(assess(odd, features(5), NAMES, COUNTS, in_ticks), "|PnL| too large").ok


def test_mixed_sources_are_flagged() -> None:
    report = judge(changed(make_trades(4), signals={"data_source": ["live", "replay", "live", "live"]}))
    assert report.sources == {"live": 3, "replay": 1}
    row = check(report, "data sources")
    assert (row.ok, row.value) == (False, "live: 3, replay: 1")
    assert check(judge(make_trades(4)), "data sources").ok


def test_what_ingest_set_aside_is_shown() -> None:
    store = {"faulty_pairs": 2, "open_signals": 4, "orphan_outcomes": 1}
    report = assess(make_trades(4), features(4), NAMES, COUNTS | {"refused": 3, "store": store}, SETTINGS)
    found = {row.name: (row.value, row.ok) for row in report.checks[-4:]}
    assert found == {
        "lines in quarantine": (3, False),
        "faulty pairs": (2, False),
        "open signals": (4, True),
        "orphan outcomes": (1, False),
    }


def test_features_must_fit() -> None:
    with pytest.raises(ValueError, match=r"features \(3, 4\) must be \(4, 4\)"):
        assess(make_trades(4), features(3), NAMES, COUNTS, SETTINGS)
    assert dataclasses.is_dataclass(judge(make_trades(4)))
