"""Valid signals and outcomes made from random numbers, for tests that do not need a market."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

from pipelines.contracts.base import SCHEMA_VERSION
from pipelines.contracts.outcome import Outcome
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import OutcomeTable, SignalTable, Trades, join

START = dt.datetime(2024, 1, 2, 15, 0, tzinfo=dt.UTC)


def tick(value: float) -> float:
    """Round to the ES tick grid."""
    return round(value * 4) / 4


def signal_dict(rng: np.random.Generator, number: int = 0, *, when: dt.datetime | None = None, **changes: Any) -> dict[str, Any]:
    """A valid `Signal` as it stands in JSONL; `changes` replaces top-level keys."""
    when = when or START + dt.timedelta(minutes=30 * number)
    moves = rng.normal(0, 2.0, 33).cumsum()
    close = [tick(5000 + move) for move in moves[1:]]
    opened = [tick(5000 + move) for move in moves[:-1]]
    high = [tick(max(o, c) + abs(rng.normal(0, 1))) for o, c in zip(opened, close, strict=True)]
    low = [tick(min(o, c) - abs(rng.normal(0, 1))) for o, c in zip(opened, close, strict=True)]
    volume = rng.integers(100, 5000, 32).astype(float).tolist()
    end = int(when.timestamp())
    side = 1 if rng.random() < 0.5 else -1
    price = close[-1]
    atr = float(rng.uniform(3, 8))
    stop = tick(1.5 * atr)
    bid_volume, ask_volume = rng.uniform(50, 2000, 2).tolist()
    return {
        "snapshot_type": "decision",
        "schema_version": SCHEMA_VERSION,
        "trade_id": f"TRADE_{when:%Y%m%d_%H%M%S}_{number:08x}",
        "recorded_at": when.isoformat(),
        "decision_time": when.isoformat(),
        "symbol": "ES",
        "data_source": "simulated",
        "market_state": {
            **{"open": opened[-1], "high": high[-1], "low": low[-1], "close": price, "volume": volume[-1]},
            **{"vwap": price - 1.0, "vwap_sd1_up": price + 4.0, "vwap_sd1_down": price - 6.0, "vwap_slope": float(rng.normal(0, 0.4))},
            **{"atr_14": atr, "atr_rank": float(rng.random()), "spread_ticks": float(rng.integers(1, 4))},
            "order_flow": {"net_delta": ask_volume - bid_volume, "bid_volume": bid_volume, "ask_volume": ask_volume},
        },
        "battle_navale": {
            "direction": "LONG" if side > 0 else "SHORT",
            "signal_type": "LONG_TREND" if side > 0 else "SHORT_TREND",
            "bn_signal": side * float(rng.uniform(0.25, 0.8)),
            "signal_strength": float(rng.random()),
            "confidence": float(rng.random()),
            "base": {"type": "green", "quality": float(rng.uniform(0.5, 0.9))},
            "trend_continuation": float(rng.choice([-0.6, -0.2, 0.0, 0.2, 0.6])),
            "pattern_quality": float(rng.random()),
            "confluence_score": float(rng.random()),
        },
        "market_structure": {
            **{"call_wall": price + 10, "put_wall": price - 10, "gamma_flip": price + 3, "net_gamma": float(rng.normal())},
            **{"put_call_ratio": float(rng.uniform(0.5, 1.5)), "call_volume": 1000.0, "put_volume": float(rng.uniform(500, 1500))},
            **{"options_asof": when.isoformat(), "vix_level": float(rng.uniform(12, 30))},
            **{"poc": price + 1, "vah": price + 3, "val": price - 3, "volume_clusters": [price + 5.0]},
            "es_nq_correlation": float(rng.uniform(0, 1)),
        },
        "execution_context": {
            **{"planned_size": 1, "stop_loss_price": price - side * stop, "take_profit_price": price + side * 2 * stop},
            **{"stop_ticks": stop * 4, "target_ticks": stop * 8, "risk_reward_ratio": 2.0, "max_risk_dollars": stop * 50},
            "session_phase": "midday",
        },
        "bars": {
            "start": [end - 300 * (32 - k) for k in range(32)],
            **{"open": opened, "high": high, "low": low, "close": close, "volume": volume},
        },
    } | changes


def outcome_dict(signal: dict[str, Any], rng: np.random.Generator, *, win: bool | None = None, **changes: Any) -> dict[str, Any]:
    """A valid `Outcome` of that signal: full target or full stop, one contract."""
    plan = signal["execution_context"]
    side = 1 if signal["battle_navale"]["direction"] == "LONG" else -1
    win = bool(rng.random() < 0.38) if win is None else win
    entry = signal["market_state"]["close"]
    distance = plan["target_ticks"] if win else -plan["stop_ticks"]
    gross = distance * 12.5
    opened = dt.datetime.fromisoformat(signal["decision_time"])
    bars = int(rng.integers(1, 20))
    return {
        "snapshot_type": "final_result",
        "schema_version": SCHEMA_VERSION,
        "trade_id": signal["trade_id"],
        "recorded_at": (opened + dt.timedelta(minutes=5 * bars)).isoformat(),
        "entry_time": opened.isoformat(),
        "exit_time": (opened + dt.timedelta(minutes=5 * bars)).isoformat(),
        "entry_price": entry,
        "quantity_filled": 1,
        "exit_price": entry + side * distance / 4,
        "gross_pnl": gross,
        "commission": 2.5,
        "net_pnl": gross - 2.5,
        "pnl_ticks": float(distance),
        "realized_r": (gross - 2.5) / plan["max_risk_dollars"],
        "max_favorable_excursion": max(float(distance), 2.0),
        "max_adverse_excursion": max(-float(distance), 1.0),
        "one_r_first": "plus" if win else "minus",
        "time_in_trade_minutes": 5.0 * bars,
        "bars_in_trade": bars,
        "bars_to_mfe": bars if win else 1,
        "exit_reason": "TP" if win else "SL",
        "trade_outcome": "win" if win else "loss",
    } | changes


def make_trades(count: int, seed: int = 0) -> Trades:
    """`count` closed trades, half an hour apart, outcomes independent of the signals."""
    rng = np.random.default_rng(seed)
    signals = [signal_dict(rng, number) for number in range(count)]
    outcomes = [outcome_dict(signal, rng) for signal in signals]
    return join(
        SignalTable.from_records([Signal.model_validate(record) for record in signals]),
        OutcomeTable.from_records([Outcome.model_validate(record) for record in outcomes]),
    )
