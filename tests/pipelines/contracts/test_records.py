"""Signal, Outcome and TradeSnapshot: what they refuse and what they say."""

from __future__ import annotations

import datetime as dt
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
        ("decision_time", "2024-01-02T14:50:00Z", "not before decision_time"),
        ("recorded_at", "0001-01-01T00:00:00+05:00", "outside the years 1 to 9999"),
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
