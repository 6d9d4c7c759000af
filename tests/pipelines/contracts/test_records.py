"""Signal, Outcome and TradeSnapshot: what they refuse and what they say."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from pipelines.contracts.outcome import Outcome, TradeSnapshot, pair_problem
from pipelines.contracts.signal import Signal
from tests.factories import outcome_dict, signal_dict


def changed(record: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one nested value replaced."""
    head, _, rest = path.partition(".")
    return {**record, head: changed(record[head], rest, value) if rest else value}


@pytest.fixture
def signal() -> dict[str, Any]:
    record = signal_dict(np.random.default_rng(5))
    while record["battle_navale"]["direction"] != "LONG":
        record = signal_dict(np.random.default_rng(6))
    return record


@pytest.fixture
def outcome(signal: dict[str, Any]) -> dict[str, Any]:
    return outcome_dict(signal, np.random.default_rng(1), win=True)


def test_the_factories_make_valid_records(signal: dict[str, Any], outcome: dict[str, Any]) -> None:
    snapshot = TradeSnapshot.model_validate({"signal": signal, "outcome": outcome})
    assert snapshot.signal.decision_time == dt.datetime(2024, 1, 2, 15, tzinfo=dt.UTC)
    assert pair_problem(snapshot.signal, snapshot.outcome) is None


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("decision_time", "2024-01-02T15:00:00", "timezone"),
        (
            "decision_time",
            "2024-01-02T14:59:59.999999Z",
            r"\(start 1704207300, 300 s long\) closes .* s after decision_time .*closed bars only",
        ),
        ("decision_time", "2024-01-09T15:00:00.000001Z", r"closed 604800\.\d* s before decision_time .*; expected at most 604800 s"),
        ("recorded_at", "0001-01-01T00:00:00+05:00", "outside the years 2007 to 2098 in UTC"),
        ("recorded_at", "2007-01-01T00:00:00+00:01", "outside the years 2007 to 2098 in UTC"),
        ("recorded_at", "2098-12-31T23:59:59-01:00", "outside the years 2007 to 2098 in UTC"),
        ("recorded_at", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.* lies outside the years 2007 to 2098 in UTC"),
        ("schema_version", "1.1.0", "newer than 1.0.0, which this Amiral reads; upgrade"),
        ("schema_version", "2.0.0", "newer than 1.0.0"),
        ("schema_version", "0.9.0", "older than 1.0.0; convert"),
        ("schema_version", "1.0", "must look like 1.0.0"),
        ("schema_version", "1.-1.0", "must look like 1.0.0"),
        ("trade_id", "a b", "pattern"),
        ("symbol", "CL", "'ES', 'MES', 'NQ' or 'MNQ'"),
        ("net_pnl", 12.5, "Extra inputs"),
        ("market_state.exit_price", 5000.0, "Extra inputs"),
        ("market_state.close", 5000.1, "multiple of 0.25"),
        ("market_state.open", -1.0, "greater than 0"),
        ("market_state.high", 100.0, "low <= open, close <= high must hold"),
        ("market_state.vwap", float("nan"), "finite"),
        ("market_state.vwap_slope", float("inf"), "finite"),
        ("market_state.vwap_sd1_up", 1.0, "outside its bands"),
        ("market_structure.options_asof", "2024-01-02T15:00:01Z", "is after decision_time"),
        ("market_structure.poc", 1.0, "val <= poc <= vah"),
        ("execution_context.take_profit_price", 1000.0, "not on the two sides"),
        ("execution_context.time_since_open_minutes", 10**400, "less than or equal to 9007199254740992"),
        ("bars.volume", [1.0] * 31, "at least 32 items"),
    ],
)
def test_signal_refuses(signal: dict[str, Any], path: str, value: Any, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Signal.model_validate(changed(signal, path, value))


@pytest.mark.parametrize(
    ("field", "moment"),
    [
        ("decision_time", "2024-01-02T15:00:00.250Z"),  # the bar closed, and the decision took a moment
        ("decision_time", "2024-01-09T15:00:00Z"),
        ("recorded_at", "2006-12-31T23:00:00-05:00"),  # 2007 in UTC
        ("recorded_at", "2098-12-31T23:59:59.999999Z"),
    ],
)
def test_moments_at_the_limit_are_taken(signal: dict[str, Any], field: str, moment: str) -> None:
    assert getattr(Signal.model_validate(changed(signal, field, moment)), field) == dt.datetime.fromisoformat(moment)


def test_a_gap_among_the_bars_is_not_their_length(signal: dict[str, Any]) -> None:
    end = signal["bars"]["start"][-1]
    starts = [end - 86_400 + 300 * k for k in range(-30, 1)] + [end]  # the last bar is the first after a day's break
    assert Signal.model_validate(changed(signal, "bars.start", starts)).bars.start[-1] == end


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("market_state.vwap_slope", True),
        ("market_state.vwap_slope", "2.5"),
        ("execution_context.planned_size", True),
        ("execution_context.planned_size", "1"),
        ("battle_navale.rouge_sous_verte_valid", 1),
        ("battle_navale.rouge_sous_verte_valid", "yes"),
        ("decision_time", 1704207600),
        ("decision_time", 1704207600.0),
        ("model_version", 7),
    ],
)
def test_json_is_not_guessed_at(signal: dict[str, Any], path: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=path.replace(".", r"\.")):
        Signal.model_validate_json(json.dumps(changed(signal, path, value)))


def test_json_of_the_right_types_is_the_same_record(signal: dict[str, Any], outcome: dict[str, Any]) -> None:
    noted = changed(changed(signal, "market_state.vwap_slope", 2), "market_state.vwap_multi", {"week": 5000})  # whole numbers are numbers
    whole = TradeSnapshot.model_validate_json(json.dumps({"signal": noted, "outcome": outcome}))
    assert whole == TradeSnapshot.model_validate({"signal": noted, "outcome": outcome})


def test_bar_window_names_the_first_bar_that_is_out_of_order(signal: dict[str, Any]) -> None:
    lows = [*signal["bars"]["low"]]
    lows[7] = signal["bars"]["high"][7] + 50.0
    with pytest.raises(ValidationError, match=r"bar 7: open .* low <= open, close <= high must hold"):
        Signal.model_validate(changed(signal, "bars.low", lows))
    starts = [*signal["bars"]["start"]]
    starts[3] = starts[2]
    with pytest.raises(ValidationError, match="strictly increasing"):
        Signal.model_validate(changed(signal, "bars.start", starts))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"exit_time": "2024-01-02T14:59:00Z"}, "exit_time 2024-01-02T14:59:00.* is before entry_time"),
        ({"recorded_at": "2024-01-02T15:00:00Z"}, "recorded_at 2024-01-02T15:00:00.* is before exit_time .*cannot have been known"),
        ({"exit_time": "9999-12-31T00:00:00Z"}, "outside the years 2007 to 2098"),
        ({"net_pnl": 1.0}, "differs from gross_pnl - commission"),
        ({"trade_outcome": "loss"}, "trade_outcome loss contradicts net_pnl"),
        ({"entry_price": 0.0}, "greater than 0"),
        ({"commission": -1.0}, "greater than or equal to 0"),
        ({"bars_in_trade": 10**400}, "less than or equal to"),
        ({"exit_reason": "BORED"}, "'TP', 'SL'"),
        ({"post_trade": {"confidence": float("nan")}}, "not plain JSON"),
    ],
)
def test_outcome_refuses(outcome: dict[str, Any], changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Outcome.model_validate(outcome | changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"trade_id": "OTHER"}, "are of two trades"),
        ({"entry_time": "2024-01-02T14:59:59Z"}, "entry_time .* is before decision_time"),
        ({"pnl_ticks": 1.0}, "pnl_ticks 1.0 differs from"),
        ({"realized_r": 77.0}, "realized_r 77.0 differs from"),
        ({"quantity_filled": 2}, "gross_pnl .* differs from .* which prices, side and size give"),
    ],
)
def test_snapshot_refuses_a_pair_that_is_no_trade(
    signal: dict[str, Any], outcome: dict[str, Any], changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValidationError, match=text):
        TradeSnapshot.model_validate({"signal": signal, "outcome": outcome | changes})


def test_other_time_zones_become_utc(signal: dict[str, Any]) -> None:
    record = Signal.model_validate(changed(signal, "decision_time", "2024-01-02T10:00:00-05:00"))
    assert record.decision_time.isoformat() == "2024-01-02T15:00:00+00:00"
