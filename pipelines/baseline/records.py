"""Signals and outcomes of the replay as tables, column by column."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.baseline.golden_rule import STATUS, VIOLATED
from pipelines.baseline.kernel import EXITS, FIRST
from pipelines.baseline.limits import Plan, Walks
from pipelines.baseline.patterns import PATTERNS
from pipelines.baseline.rules import FILTERS, Verdicts
from pipelines.baseline.score import BALANCE_WEIGHT, BASE_WEIGHT, CONTINUATION_WEIGHT, Score
from pipelines.contracts.base import SCHEMA_VERSION, WINDOW_BARS
from pipelines.contracts.tables import OutcomeTable, SignalTable
from pipelines.market.table import Market
from pipelines.settings import Settings

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Columns = dict[str, Any]

TREND_STRENGTH = 0.5
"""Trend strength from which a market counts as trending (DOMAIN B.3)."""
STRONG_SCORE = 0.4
BALANCED_SCORE = 0.2

_STATE = (
    *("open", "high", "low", "close", "volume", "session_high", "session_low", "session_volume", "spread_ticks"),
    *("vwap", "vwap_sd1_up", "vwap_sd1_down", "vwap_slope", "atr_14", "atr_rank", "realized_volatility", "trend_strength"),
)
_STRUCTURE = (
    *("call_wall", "put_wall", "gamma_flip", "net_gamma", "total_gamma_exposure", "call_volume", "put_volume", "call_oi", "put_oi"),
    *("put_call_ratio", "put_call_volume_ratio", "options_asof", "vix_level", "poc", "vah", "val", "ppoc", "pvah", "pval"),
    *("prev_session_high", "prev_session_low", "overnight_high", "overnight_low", "es_nq_correlation"),
)


def signal_table(market: Market, score: Score, plan: Plan, settings: Settings) -> SignalTable:
    """Write down the signals of a plan, all but what `with_verdicts` adds.

    Parameters
    ----------
    market
        The bars, decision bars included.
    score
        The score of every bar.
    plan
        The candidates.
    settings
        All settings.
    """
    at = plan.at
    rows = market.frame.iloc[at]
    columns = _envelope(market, rows, plan, settings)
    columns |= {f"market_state.{name}": rows[name].to_numpy() for name in _STATE}
    columns |= _order_flow(market, rows, at)
    columns |= _battle(market, score, plan, settings)
    columns |= {f"market_structure.{name}": rows[name].array for name in _STRUCTURE}
    columns["market_structure.nq_price"] = rows["nq_close"].to_numpy()
    columns["market_structure.dealer_gamma_position"] = _pick(("short", "neutral", "long"), np.sign(rows["net_gamma"].to_numpy()) + 1)
    columns |= _execution(rows, plan, settings)
    frame = pd.DataFrame(columns, copy=False)
    return SignalTable.of(frame, _windows(market, at, settings.instrument.tick_size), market.clusters[at])


def with_verdicts(
    signals: SignalTable, score: Score, plan: Plan, verdicts: Verdicts, parts: dict[str, Floats], grades: dict[str, Floats]
) -> SignalTable:
    """Add confluence, strength, confidence and the filters to the signals.

    Parameters
    ----------
    signals, score, plan
        As from `signal_table`.
    verdicts
        The filters of each signal.
    parts
        The confluence's components, each of shape (m,); NaN, a component without data, is left out of the record.
    grades
        "confluence_score", "signal_strength" and "confidence", each of shape (m,).
    """
    passed, failed = _names(verdicts.passed), _names(verdicts.failed)
    names = sorted(parts)
    values = np.column_stack([np.round(parts[name], 6) for name in names]) if names else np.empty((len(signals), 0))
    components = [json.dumps({name: value for name, value in zip(names, row, strict=True) if value == value}) for row in values.tolist()]
    added = {f"battle_navale.{name}": value for name, value in grades.items()} | {
        "battle_navale.confluence_components": components,
        "battle_navale.decision_reasoning": _reasoning(score, plan.at, failed),
        "battle_navale.filters_passed": [json.dumps(row) if row else None for row in passed],
        "battle_navale.filters_failed": [json.dumps(row) if row else None for row in failed],
    }
    return SignalTable.of(signals.frame.assign(**added), signals.bars, signals.clusters)


def outcome_table(market: Market, signals: SignalTable, plan: Plan, walks: Walks, settings: Settings) -> OutcomeTable:
    """Write down the outcomes of the closed trades among the signals (`walks.exit_at` >= 0)."""
    done = np.flatnonzero(walks.exit_at >= 0)
    tick, size = settings.instrument.tick_size, settings.replay.size
    ends, starts = market.frame["end"].array, market.frame["ts"].array
    closed, entered = walks.exit_at[done], plan.at[done] + 1
    ticks = walks.gain[done] / tick
    gross = ticks * settings.instrument.tick_value * size
    commission = np.full(len(done), settings.instrument.commission * size)
    net = gross - commission
    market_exit = walks.reason[done] != EXITS.index("TP")
    slipped = slippage_points(settings) / tick
    # The label counts as known from the end of the exit bar on, also when the fill came at its open: safe for the purge.
    entry_time, exit_time = starts[entered], ends[closed]
    bars = closed - entered + np.where(walks.at_open[done], 0, 1)
    minutes = (exit_time - entry_time).total_seconds() / 60.0 - np.where(walks.at_open[done], market.bar_minutes, 0)
    reasons = _pick(EXITS, walks.reason[done])
    risk = signals.frame["execution_context.max_risk_dollars"].to_numpy(np.float64)[done]
    columns: Columns = {
        "snapshot_type": "final_result",
        "schema_version": SCHEMA_VERSION,
        "trade_id": signals.frame["trade_id"].array[done],
        "recorded_at": exit_time,
        "entry_time": entry_time,
        "exit_time": exit_time,
        "order_type": "MKT",
        "price_requested": market.column("open")[entered],
        "entry_price": walks.entry[done],
        "quantity_filled": float(size),
        "slippage_ticks": slipped,
        "exit_price": walks.exit[done],
        "gross_pnl": gross,
        "commission": commission,
        "slippage_cost": slipped * settings.instrument.tick_value * size * (1.0 + market_exit),
        "net_pnl": net,
        "pnl_ticks": ticks,
        "realized_r": net / risk,
        "max_favorable_excursion": walks.mfe[done] / tick,
        "max_adverse_excursion": walks.mae[done] / tick,
        "one_r_first": _pick(FIRST, walks.first[done]),
        "time_in_trade_minutes": minutes,
        "bars_in_trade": bars.astype(np.float64),
        "bars_to_mfe": np.minimum(walks.bars_to_mfe[done], bars).astype(np.float64),
        "exit_reason": reasons,
        "ambiguous_bar": walks.ambiguous[done],
        "execution_quality.entry_slippage_ticks": slipped,
        "execution_quality.exit_slippage_ticks": np.where(market_exit, slipped, 0.0),
        "trade_outcome": _pick(("loss", "breakeven", "win"), np.sign(net) + 1),
    }
    return OutcomeTable.of(pd.DataFrame(columns, index=range(len(done))))


def slippage_points(settings: Settings) -> float:
    """Adverse slippage of one market order in points, rounded up to whole ticks."""
    return float(np.ceil(settings.replay.slippage_ticks)) * settings.instrument.tick_size


def _envelope(market: Market, rows: pd.DataFrame, plan: Plan, settings: Settings) -> Columns:
    symbol = settings.instrument.symbol
    decided = pd.DatetimeIndex(rows["end"])
    texts = decided.strftime("%Y%m%d_%H%M%S").tolist()
    ids = [
        f"TRADE_{text}_{hashlib.blake2b(f'{symbol}|{market.source}|{text}|{side}'.encode(), digest_size=4).hexdigest()}"
        for text, side in zip(texts, plan.side.tolist(), strict=True)
    ]
    return {
        "snapshot_type": "decision",
        "schema_version": SCHEMA_VERSION,
        "trade_id": ids,
        "recorded_at": decided,
        "decision_time": decided,
        "symbol": symbol,
        "data_source": market.source,
        "arm": "baseline",
        "market_state.trend_direction": _pick(("down", "flat", "up"), rows["trend_direction"].to_numpy() + 1),
    }


def _order_flow(market: Market, rows: pd.DataFrame, at: Rows) -> Columns:
    sold, bought = rows["bid_volume"].to_numpy(), rows["ask_volume"].to_numpy()
    delta = market.frame["ask_volume"] - market.frame["bid_volume"]
    total = delta.groupby(market.frame["session"]).cumsum().to_numpy() if delta.notna().any() else delta.to_numpy()
    return {
        "market_state.order_flow.bid_volume": sold,
        "market_state.order_flow.ask_volume": bought,
        "market_state.order_flow.net_delta": bought - sold,
        "market_state.order_flow.cumulative_delta": total[at],
    }


def _battle(market: Market, score: Score, plan: Plan, settings: Settings) -> Columns:
    at, tick = plan.at, settings.instrument.tick_size
    s, run, status = score.s[at], score.fight.run[at], score.rule.status[at]
    vikings = (score.fight.balance[at] + 1.0) / 2.0
    based = score.rule.base_at[at] >= 0
    coloured = score.base_sign[at] != 0
    regime = trend_regime(market, score, at)
    size = np.round((score.base_high[at] - score.base_low[at]) / tick, 6)
    kinds = np.where(based, score.base_sign[at] + 1, 3)
    battle = np.select([s > STRONG_SCORE, s < -STRONG_SCORE, np.abs(s) <= BALANCED_SCORE], [0, 1, 2], 3)
    held = pd.array(status != VIOLATED, dtype="boolean")
    held[~coloured] = pd.NA
    return {
        "battle_navale.direction": _pick(("SHORT", "LONG"), plan.side > 0),
        "battle_navale.signal_type": _signal_types(plan.side, regime),
        "battle_navale.bn_signal": s,
        "battle_navale.boules_state.colours": _colours(score.fight.colour, at, settings.baseline.vikings_bars),
        "battle_navale.boules_state.green_run": np.maximum(run, 0).astype(np.float64),
        "battle_navale.boules_state.red_run": np.maximum(-run, 0).astype(np.float64),
        "battle_navale.boules_state.vikings_strength": vikings,
        "battle_navale.boules_state.defenders_strength": 1.0 - vikings,
        "battle_navale.boules_state.battle_status": _pick(("vikings_winning", "defenders_winning", "balanced_fight", "no_battle"), battle),
        "battle_navale.base.type": _pick(("red", "neutral", "green", "none"), kinds),
        "battle_navale.base.high": score.base_high[at],
        "battle_navale.base.low": score.base_low[at],
        "battle_navale.base.size_ticks": size,
        "battle_navale.base.duration_bars": score.base_duration[at],
        "battle_navale.base.quality": score.base_quality[at],
        "battle_navale.base_strength": np.where(based, score.base_quality[at], 0.0),
        "battle_navale.trend_continuation": score.rule.continuation[at],
        "battle_navale.rouge_sous_verte_valid": held,
        "battle_navale.golden_rule_status": _pick(STATUS, status),
        "battle_navale.pattern_type": _pick(PATTERNS, score.patterns.kind[at]),
        "battle_navale.pattern_quality": score.patterns.strength[at],
        "battle_navale.trend_regime": regime,
        # Required by the contract; `with_verdicts` fills them once the features are known.
        "battle_navale.signal_strength": 0.0,
        "battle_navale.confidence": 0.0,
        "battle_navale.decision_reasoning": "",
        "execution_context.entry_reason": [
            f"{kind} on {rule}" for kind, rule in zip(_signal_types(plan.side, regime), _pick(STATUS, status), strict=True)
        ],
    }


def trend_regime(market: Market, score: Score, at: Rows) -> Sequence[str]:
    """Name the regime at the decision bars: trend by the market's trend strength, else the newest base's state.

    A broken base outside a trend is a transition; a close inside the newest base is a tight
    range, any other close a wide one.
    """
    direction, power = market.column("trend_direction")[at], market.column("trend_strength")[at]
    close = market.column("close")[at]
    trending = (power >= TREND_STRENGTH) & (direction != 0)
    inside = (close >= score.base_low[at]) & (close <= score.base_high[at])
    conditions = [np.isnan(power), trending & (direction > 0), trending, score.rule.status[at] == VIOLATED, inside]
    return _pick(
        ("unknown", "trend_bullish", "trend_bearish", "transition", "range_tight", "range_wide"), np.select(conditions, range(5), 5)
    )


def _signal_types(side: NDArray[np.int64], regime: Sequence[str]) -> list[str]:
    return [
        ("LONG_" if one > 0 else "SHORT_") + ("TREND" if name.startswith("trend") else "RANGE")
        for one, name in zip(side.tolist(), regime, strict=True)
    ]


def _execution(rows: pd.DataFrame, plan: Plan, settings: Settings) -> Columns:
    tick, size = settings.instrument.tick_size, settings.replay.size
    close = rows["close"].to_numpy()
    session = pd.DatetimeIndex(rows["session"])
    vix = rows["vix_level"].to_numpy()
    band = np.where(np.isnan(vix), np.nan, np.digitize(vix, settings.replay.vix_bands))
    return {
        "execution_context.planned_size": float(size),
        "execution_context.stop_loss_price": close - plan.side * plan.stop,
        "execution_context.take_profit_price": close + plan.side * plan.target,
        "execution_context.stop_ticks": plan.stop / tick,
        "execution_context.target_ticks": plan.target / tick,
        "execution_context.risk_reward_ratio": plan.target / plan.stop,
        "execution_context.max_risk_dollars": plan.stop / tick * settings.instrument.tick_value * size,
        "execution_context.session_phase": rows["phase"].array,
        "execution_context.time_since_open_minutes": np.rint(rows["minutes_since_open"].to_numpy()),
        "execution_context.time_to_close_minutes": np.rint(rows["minutes_to_close"].to_numpy()),
        "execution_context.day_of_week": session.dayofweek.to_numpy(np.float64),
        "execution_context.month_of_year": session.month.to_numpy(np.float64),
        "execution_context.week_of_month": (session.day.to_numpy(np.float64) - 1) // 7 + 1,
        "execution_context.overnight_gap_percent": rows["overnight_gap_percent"].to_numpy(),
        "execution_context.volatility_regime": _pick(("low_vol", "normal_vol", "high_vol", "extreme_vol"), band),
    }


def _windows(market: Market, at: Rows, tick: float) -> Floats:
    """The last 32 closed bars of each decision, in the terms of its own contract; shape (m, 32, 6)."""
    steps = at[:, np.newaxis] + np.arange(1 - WINDOW_BARS, 1)
    offset = market.column("offset")
    shift = offset[at][:, np.newaxis] - offset[steps]
    bars = np.empty((len(at), WINDOW_BARS, 6))
    seconds = market.frame["ts"].astype("int64").to_numpy(np.int64) // 1_000_000_000
    bars[:, :, 0] = seconds[steps]
    for axis, name in enumerate(("open", "high", "low", "close"), start=1):
        # Rounding takes off what the sum of roll gaps may have left beside the tick grid.
        bars[:, :, axis] = np.rint((market.column(name)[steps] + shift) / tick) * tick
    bars[:, :, 5] = market.column("volume")[steps]
    return bars


def _colours(colour: NDArray[np.int8], at: Rows, bars: int) -> list[str]:
    steps = at[:, np.newaxis] + np.arange(1 - bars, 1)
    letters = np.array(["r", "n", "g"])[colour[steps] + 1]
    return ["".join(row) for row in letters.tolist()]


def _reasoning(score: Score, at: Rows, failed: list[list[str]]) -> list[str]:
    parts = np.column_stack(
        [
            score.s[at],
            BALANCE_WEIGHT * score.fight.balance[at],
            CONTINUATION_WEIGHT * score.rule.continuation[at],
            BASE_WEIGHT * score.base_sign[at] * np.where(score.rule.base_at[at] >= 0, score.base_quality[at], 0.0),
        ]
    )
    return [
        f"s {s:+.3f} = fight {b:+.3f} + golden rule {tc:+.3f} + base {q:+.3f}; "
        + (f"fails {', '.join(names)}" if names else "passes every filter")
        for (s, b, tc, q), names in zip((parts + 0.0).tolist(), failed, strict=True)
    ]


def _names(mask: NDArray[np.bool_]) -> list[list[str]]:
    return [[name for name, there in zip(FILTERS, row, strict=True) if there] for row in mask.tolist()]


def _pick(choices: Sequence[str], codes: Any) -> Any:
    """Turn codes into their names; NaN into a missing value."""
    codes = np.asarray(codes, dtype=np.float64)
    known = ~np.isnan(codes)
    names = np.array([*choices, None], dtype=object)
    return pd.array(names[np.where(known, codes, len(choices)).astype(np.int64)], dtype="str")
