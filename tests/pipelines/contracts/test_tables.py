"""Tables: round trips, the T0 whitelist, schemas, content hash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.contracts.base import ContractError
from pipelines.contracts.outcome import Outcome, TradeSnapshot
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import OUTCOME_COLUMNS, SIGNAL_COLUMNS, OutcomeTable, SignalTable, Trades, join
from tests.factories import make_trades, outcome_dict, signal_dict

ENVELOPE = {"snapshot_type", "schema_version", "trade_id", "recorded_at"}


def records(count: int, seed: int) -> tuple[list[Signal], list[Outcome]]:
    rng = np.random.default_rng(seed)
    plain = [signal_dict(rng, number) for number in range(count)]
    for number, record in enumerate(plain):
        structure = record["market_structure"]
        structure["volume_clusters"] = [5000.0 + k for k in range(number % 9)]
        for name in rng.choice(["vix_level", "poc", "options_asof", "call_wall"], 2, replace=False):
            structure[name] = None
        record["battle_navale"]["filters_passed"] = ["vwap", "delta"][: number % 3]
        record["battle_navale"]["rouge_sous_verte_valid"] = [None, True, False][number % 3]
        record["execution_context"]["economic_events_today"] = ["FOMC", "café, \u2028 \x00"][: number % 3]
    outcomes = [outcome_dict(record, rng, post_trade={"b": [1, None], "a": "x"} if rng.random() < 0.5 else {}) for record in plain]
    return [Signal.model_validate(record) for record in plain], [Outcome.model_validate(record) for record in outcomes]


@settings(max_examples=15, deadline=None)
@given(count=st.integers(0, 12), seed=st.integers(0, 2**32))
def test_record_to_table_to_parquet_to_record(count: int, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    signals, outcomes = records(count, seed)
    folder = tmp_path_factory.mktemp("tables")
    SignalTable.from_records(signals).validate().write(folder / "s.parquet")
    OutcomeTable.from_records(outcomes).validate().write(folder / "o.parquet")
    # Through text, as the bot would send it: what is read back must be the same record.
    again = [Signal.model_validate_json(json.dumps(record)) for record in SignalTable.read(folder / "s.parquet").to_dicts()]
    closed = [Outcome.model_validate_json(json.dumps(record)) for record in OutcomeTable.read(folder / "o.parquet").to_dicts()]
    assert again == signals
    assert closed == outcomes


def test_no_outcome_column_can_be_a_signal_column() -> None:
    shared = {column.path for column in SIGNAL_COLUMNS} & {column.path for column in OUTCOME_COLUMNS}
    assert shared == ENVELOPE
    leaves = {column.path.rpartition(".")[2] for column in SIGNAL_COLUMNS}
    late = {"exit_price", "entry_price", "net_pnl", "realized_r", "pnl_ticks", "exit_reason", "slippage_ticks", "bars_in_trade"}
    late |= {"max_favorable_excursion", "max_adverse_excursion", "trade_outcome", "entry_time", "exit_time", "one_r_first"}
    assert not leaves & late


def test_a_signal_table_refuses_a_column_too_many() -> None:
    signals = make_trades(2).signals
    leaking = signals.frame.assign(net_pnl=1.0)
    with pytest.raises(ContractError, match="unknown columns \\['net_pnl'\\]"):
        SignalTable(leaking, signals.bars, signals.clusters)
    with pytest.raises(ContractError, match="unknown column\\(s\\) 'net_pnl'"):
        SignalTable.of(leaking, signals.bars, signals.clusters)
    with pytest.raises(ContractError, match="missing columns \\['symbol'\\]"):
        SignalTable(signals.frame.drop(columns="symbol"), signals.bars, signals.clusters)


def test_bars_and_clusters_must_fit_the_frame() -> None:
    signals = make_trades(3).signals
    with pytest.raises(ValueError, match=r"bars \(2, 32, 6\) .* must be \(3, 32, 6\)"):
        SignalTable(signals.frame, signals.bars[:2], signals.clusters)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("market_state.atr_14", 0.0, "market_state.atr_14: 0.0 fails greater_than"),
        ("battle_navale.direction", "SIDEWAYS", "SIDEWAYS"),
        ("battle_navale.confidence", 1.5, "1.5 fails less_than_or_equal_to"),
        ("market_state.close", np.nan, "market_state.close"),
        ("recorded_at", pd.Timestamp("9998-01-01T00:00:00Z"), "recorded_at: Timestamp.'9998.* fails in_range"),
    ],
)
def test_schema_names_column_and_value(column: str, value: Any, text: str) -> None:
    signals = make_trades(3).signals
    frame = signals.frame.copy()
    frame.loc[1, column] = value
    with pytest.raises(ContractError, match=text):
        SignalTable.of(frame, signals.bars, signals.clusters).validate()


def test_schema_refuses_two_rows_of_one_trade_and_unfinite_bars() -> None:
    signals = make_trades(2).signals
    with pytest.raises(ContractError, match="trade_id"):
        SignalTable.concat([signals, signals]).validate()
    bars = signals.bars.copy()
    bars[0, 0, 1] = np.nan
    with pytest.raises(ContractError, match="NaN or infinity; expected 32 finite bars"):
        SignalTable(signals.frame, bars, signals.clusters).validate()


def test_join_sorts_and_leaves_open_trades_and_orphans_out() -> None:
    trades = make_trades(6)
    order = np.array([4, 2, 0, 5])
    paired = join(trades.signals.take(order), trades.outcomes.take(np.array([5, 4, 1, 0])))
    assert paired.signals.frame["trade_id"].tolist() == trades.signals.frame["trade_id"].iloc[[0, 4, 5]].tolist()
    assert paired.outcomes.frame["trade_id"].tolist() == paired.signals.frame["trade_id"].tolist()
    assert np.array_equal(paired.signals.bars, trades.signals.bars[[0, 4, 5]])
    with pytest.raises(ValueError, match="2 signals and 1 outcomes"):
        Trades(trades.signals.take(np.array([0, 1])), trades.outcomes.take(np.array([0])))


@pytest.mark.parametrize("change", ["number", "text", "missing", "time", "bar", "cluster"])
def test_content_hash_sees_every_kind_of_value(change: str) -> None:
    trades = make_trades(3)
    frame, bars, clusters = trades.signals.frame.copy(), trades.signals.bars.copy(), trades.signals.clusters.copy()
    match change:
        case "number":
            frame.loc[1, "market_state.vwap"] += 1e-9
        case "text":
            frame.loc[1, "battle_navale.decision_reasoning"] = "because"
        case "missing":
            frame.loc[1, "market_structure.vix_level"] = np.nan
        case "time":
            frame.loc[1, "recorded_at"] += pd.Timedelta(microseconds=1)
        case "bar":
            bars[2, 31, 5] += 1.0
        case "cluster":
            clusters[0, 7] = 5000.0
    other = Trades(SignalTable.of(frame, bars, clusters), trades.outcomes)
    assert other.content_hash() != trades.content_hash()
    assert make_trades(3).content_hash() == trades.content_hash()


def test_minus_zero_is_zero(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plus = signal_dict(rng)
    plus["market_state"]["vwap_slope"] = 0.0
    minus = json.loads(json.dumps(plus))
    minus["market_state"]["vwap_slope"] = -0.0
    for name, record in (("plus", plus), ("minus", minus)):
        SignalTable.from_records([Signal.model_validate(record)]).write(tmp_path / name)
    assert (tmp_path / "plus").read_bytes() == (tmp_path / "minus").read_bytes()


def test_a_whole_snapshot_is_two_records() -> None:
    rng = np.random.default_rng(0)
    signal = signal_dict(rng)
    snapshot = TradeSnapshot.model_validate({"signal": signal, "outcome": outcome_dict(signal, rng)})
    assert len(join(SignalTable.from_records([snapshot.signal]), OutcomeTable.from_records([snapshot.outcome]))) == 1
