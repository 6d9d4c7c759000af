"""The replay: bars in, signals and outcomes out (DOMAIN C.9).

`collect` writes down every candidate signal, so that a model sees both sides of the strategy's
gates; `live` trades one position at a time behind all filters and limits. Both are prefix
invariant: the replay of bars up to t gives the same signals up to t, and exactly those outcomes
that were known by t.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.baseline.kernel import ENTRY_PROBLEMS, EXITS, Rules, Tape, cool_down
from pipelines.baseline.limits import LIMITS, Limits, Plan, Walks, collect, live
from pipelines.baseline.records import outcome_table, signal_table, slippage_points, with_verdicts
from pipelines.baseline.rules import candidates, clock_minutes, confidence, confluence, judge, strength
from pipelines.baseline.score import Score, score
from pipelines.contracts.tables import OutcomeTable, SignalTable
from pipelines.features.twelve import compute
from pipelines.market.table import Market
from pipelines.settings import Settings

Floats = NDArray[np.float64]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class ReplayReport:
    """What a replay found; every candidate is either a trade or stands in `skipped`.

    Attributes
    ----------
    mode, scale
        collect or live; ticks or atr: the unit of stop, bases and patterns.
    bars, sessions
        Bars and trading days of the market.
    candidates
        Bars at which the strategy had a signal inside the entry window.
    signals
        Signals written down: with all filters passed in live mode, after the cool-down in collect mode.
    trades
        Closed trades.
    skipped
        Candidates without a closed trade, by reason.
    longs
        Trades on the long side.
    win_rate
        Share of trades with net_pnl > 0; None without trades.
    average_r
        Mean net result in units of the planned risk.
    expectancy_usd, net_pnl_usd
        Mean and sum of the net results, USD.
    exits
        Trades by exit reason.
    ambiguous, ambiguous_share
        Trades whose exit bar held both stop and target (the stop was assumed), and their share.
    median_bars, median_stop_points
        Median bars in trade, median stop distance in points.
    first_decision, last_decision
        ISO 8601, UTC.
    with_options, with_vix, with_nq
        Signals with fresh option levels, with a VIX, with an ES/NQ correlation.
    """

    mode: Literal["collect", "live"]
    scale: Literal["ticks", "atr"]
    bars: int
    sessions: int
    candidates: int
    signals: int
    trades: int
    skipped: dict[str, int]
    longs: int
    win_rate: float | None
    average_r: float | None
    expectancy_usd: float | None
    net_pnl_usd: float
    exits: dict[str, int]
    ambiguous: int
    ambiguous_share: float | None
    median_bars: float | None
    median_stop_points: float | None
    first_decision: str | None
    last_decision: str | None
    with_options: int
    with_vix: int
    with_nq: int

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class ReplayResult:
    """Signals (T0), outcomes of the closed trades (T1 to T4) and the report; joined on `trade_id`."""

    signals: SignalTable
    outcomes: OutcomeTable
    report: ReplayReport


def replay(market: Market, settings: Settings, *, progress: Progress | None = None) -> ReplayResult:
    """Walk a market and write down what the strategy would have seen and done.

    Parameters
    ----------
    market
        Bars with everything known at each bar's end.
    settings
        All settings; `replay.mode` chooses between collect and live.
    progress
        Called with the name of each step before it begins.

    Returns
    -------
    ReplayResult
        Signals sorted by decision time. Same market and settings, same bytes.

    Raises
    ------
    ContractError
        A table breaks its contract; the message names column and value.
    """
    tell = progress or (lambda _: None)
    tell("scoring the bars")
    scored = score(market, settings)
    found = candidates(market, scored, settings)
    skipped: Counter[str] = Counter()
    if settings.replay.mode == "collect":
        kept = cool_down(found, scored.side[found], settings.replay.cooldown_bars)
        skipped["cooldown"] = int((~kept).sum())
    else:
        kept = np.ones(len(found), dtype=bool)
    plan = _plan(market, scored, found[kept], settings)

    tell("writing down the signals")
    signals, passed, blamed = _judged_signals(market, scored, plan, settings)
    if settings.replay.mode == "live":
        skipped.update(name for name in blamed if name)
        plan, signals = _take(plan, passed), signals.take(passed)

    tell("walking the trades")
    walks = _walk(market, scored, plan, settings)
    taken = walks.limit == 0
    skipped.update(_names(LIMITS, walks.limit[~taken]))
    plan, walks, signals = _take(plan, taken), _take(walks, taken), signals.take(taken)
    skipped.update(_names(ENTRY_PROBLEMS, walks.problem[walks.problem > 0]))
    skipped["still_open"] = int(((walks.problem == 0) & (walks.exit_at < 0)).sum())

    tell("checking the tables")
    outcomes = outcome_table(market, signals, plan, walks, settings).validate()
    report = _report(market, signals.validate(), outcomes, walks, plan, settings, candidates=len(found), skipped=skipped)
    return ReplayResult(signals, outcomes, report)


def _plan(market: Market, scored: Score, at: NDArray[np.int64], settings: Settings) -> Plan:
    """Distances on the tick grid, at least one tick each."""
    tick = settings.instrument.tick_size
    side = scored.side[at].astype(np.int64)
    stop = np.maximum(np.rint(settings.baseline.distances.stop * scored.unit[at] / tick), 1.0)
    target = np.maximum(np.rint(settings.replay.reward_risk * stop), 1.0)
    vix = market.column("vix_level")[at]
    # Without a VIX the longest wait holds.
    band = np.where(np.isnan(vix), len(settings.replay.vix_bands), np.digitize(vix, settings.replay.vix_bands))
    patience = np.array(settings.replay.patience_minutes)[band]
    special = (scored.base_sign[at] == side) & settings.replay.special_exit
    return Plan(at, side, stop * tick, target * tick, special, patience)


def _judged_signals(market: Market, scored: Score, plan: Plan, settings: Settings) -> tuple[SignalTable, NDArray[np.bool_], list[str]]:
    rules = settings.baseline
    signals = signal_table(market, scored, plan, settings)
    s = scored.s[plan.at]
    total, parts = confluence(compute(signals, settings.features), rules.confluence_weights)
    sureness = confidence(s, total, rules.signal_threshold)
    verdicts = judge(plan.at, scored, market.column("spread_ticks")[plan.at], total, sureness, rules)
    grades = {"confluence_score": total, "confidence": sureness, "signal_strength": strength(s, rules.signal_threshold)}
    return with_verdicts(signals, scored, plan, verdicts, parts, grades), verdicts.all_passed, verdicts.first_failed()


def _walk(market: Market, scored: Score, plan: Plan, settings: Settings) -> Walks:
    tape, rules = _tape(market, scored, settings), _rules(market, settings)
    if settings.replay.mode == "collect":
        return collect(tape, rules, plan)
    instrument, limits = settings.instrument, settings.replay
    point_value = instrument.tick_value / instrument.tick_size * limits.size
    commission = instrument.commission * limits.size
    losses = (limits.daily_loss_soft, limits.daily_loss_hard, limits.max_consecutive_losses, limits.stopout_cooldown_minutes)
    return live(tape, rules, plan, Limits(*losses, point_value, commission, instrument.tick_size))


def _tape(market: Market, scored: Score, settings: Settings) -> Tape:
    entry_left, flat_left = clock_minutes(market, settings.replay)
    prices = {name: np.ascontiguousarray(market.column(name), dtype=np.float64) for name in ("open", "high", "low", "close", "offset")}
    return Tape(
        **prices,
        day=market.frame["session"].astype("int64").to_numpy(np.int64),
        start=market.frame["ts"].astype("int64").to_numpy(np.int64) // 60_000_000_000,
        entry_left=entry_left,
        flat_left=flat_left,
        colour=scored.fight.colour,
        side=scored.side,
    )


def _rules(market: Market, settings: Settings) -> Rules:
    through = float(np.ceil(settings.replay.target_trade_through_ticks)) * settings.instrument.tick_size
    return Rules(
        *(market.bar_minutes, settings.market.max_gap_bars, slippage_points(settings), through),
        *(settings.replay.time_exit_bars, settings.replay.reversal_exit),
    )


def _take(group: Any, rows: NDArray[np.bool_]) -> Any:
    return type(group)(*(values[rows] for values in group))


def _names(choices: tuple[str, ...], codes: NDArray[np.int8]) -> Iterable[str]:
    return (choices[code] for code in codes.tolist())


def _report(
    market: Market,
    signals: SignalTable,
    outcomes: OutcomeTable,
    walks: Walks,
    plan: Plan,
    settings: Settings,
    *,
    candidates: int,
    skipped: Counter[str],
) -> ReplayReport:
    closed = outcomes.frame
    trades = len(closed)
    net = closed["net_pnl"].to_numpy(np.float64)
    done = walks.exit_at >= 0
    reasons = Counter(_names(EXITS, walks.reason[done]))
    ambiguous = int(walks.ambiguous[done].sum())
    frame = signals.frame
    age = (frame["decision_time"] - frame["market_structure.options_asof"]).dt.total_seconds()
    decided = frame["decision_time"]
    return ReplayReport(
        mode=settings.replay.mode,
        scale=settings.baseline.scale,
        bars=len(market),
        sessions=int(market.frame["session"].nunique()),
        candidates=candidates,
        signals=len(signals),
        trades=trades,
        skipped={name: count for name, count in sorted(skipped.items()) if count},
        longs=int((plan.side[done] > 0).sum()),
        win_rate=float((net > 0).mean()) if trades else None,
        average_r=float(closed["realized_r"].mean()) if trades else None,
        expectancy_usd=float(net.mean()) if trades else None,
        net_pnl_usd=float(net.sum()),
        exits={name: reasons[name] for name in EXITS if reasons[name]},
        ambiguous=ambiguous,
        ambiguous_share=ambiguous / trades if trades else None,
        median_bars=float(closed["bars_in_trade"].median()) if trades else None,
        median_stop_points=float(np.median(plan.stop[done])) if trades else None,
        first_decision=decided.iloc[0].isoformat() if len(frame) else None,
        last_decision=decided.iloc[-1].isoformat() if len(frame) else None,
        with_options=int((age <= settings.features.options_stale_s).sum()),
        with_vix=int(frame["market_structure.vix_level"].notna().sum()),
        with_nq=int(frame["market_structure.es_nq_correlation"].notna().sum()),
    )
