"""`Signal`: everything that is known at decision time (T0), and nothing else.

The bot sends it to be scored; the features are a function of it alone. A field that becomes
known later belongs to `Outcome`, so an outcome cannot leak into a feature by construction.
"""

from __future__ import annotations

from operator import le, lt, sub
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.contracts.base import (
    MAX_CLUSTERS,
    WINDOW_BARS,
    Contract,
    Count,
    CountOrZero,
    Level,
    NonNegative,
    Price,
    SchemaVersion,
    Signed,
    TradeId,
    Unit,
    Utc,
    Whole,
)

MAX_BAR_AGE_S = 7 * 86400
"""Most seconds from the end of the last bar to the decision: the market closes for a long weekend, a dead feed for longer."""

Symbol = Literal["ES", "MES", "NQ", "MNQ"]
DataSource = Literal["live", "paper", "replay", "simulated"]
Direction = Literal["LONG", "SHORT"]

Prices32 = Annotated[tuple[Price, ...], Field(min_length=WINDOW_BARS, max_length=WINDOW_BARS)]
Volumes32 = Annotated[tuple[NonNegative, ...], Field(min_length=WINDOW_BARS, max_length=WINDOW_BARS)]
Seconds32 = Annotated[tuple[CountOrZero, ...], Field(min_length=WINDOW_BARS, max_length=WINDOW_BARS)]


class BarWindow(Contract):
    """The last 32 closed bars, oldest first, as columns.

    Prices are in the terms of the contract of the last bar: across a roll the older bars are
    shifted by the roll gap.
    """

    start: Seconds32 = Field(description="bar starts, Unix seconds (UTC), strictly increasing; the smallest step is a bar's length")
    open: Prices32 = Field(description="index points")
    high: Prices32 = Field(description="index points")
    low: Prices32 = Field(description="index points")
    close: Prices32 = Field(description="index points")
    volume: Volumes32 = Field(description="contracts")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        starts, high, low = self.start, self.high, self.low
        # Plain loops would cost more than all the rest of validating a signal.
        if not all(map(lt, starts, starts[1:])):
            raise ValueError("bars.start must be strictly increasing")
        inside = (map(le, low, self.open), map(le, self.open, high), map(le, low, self.close), map(le, self.close, high))
        if not all(map(all, inside)):
            raise ValueError(self._first_bar_out_of_order())
        return self

    def _first_bar_out_of_order(self) -> str:
        for index, (o, h, low, c) in enumerate(zip(self.open, self.high, self.low, self.close, strict=True)):
            if not (low <= o <= h and low <= c <= h):
                return f"bar {index}: open {o}, high {h}, low {low}, close {c}; low <= open, close <= high must hold"
        raise AssertionError("every bar is in order")


class OrderFlow(Contract):
    """Aggressor volumes of the last closed bar, where the feed has them."""

    cumulative_delta: float | None = Field(None, description="contracts, session so far")
    net_delta: float | None = Field(None, description="contracts; bought at ask less sold at bid")
    bid_volume: NonNegative | None = Field(None, description="contracts traded at the bid")
    ask_volume: NonNegative | None = Field(None, description="contracts traded at the ask")
    aggressive_buys: NonNegative | None = Field(None, description="contracts")
    aggressive_sells: NonNegative | None = Field(None, description="contracts")
    absorption_score: float | None = None


class MarketState(Contract):
    """Price, volume, spread and VWAP at the close of the last bar (DOMAIN A.3)."""

    open: Price = Field(description="index points")
    high: Price = Field(description="index points")
    low: Price = Field(description="index points")
    close: Price = Field(description="index points")
    volume: NonNegative = Field(description="contracts")
    session_high: Price | None = Field(None, description="index points, trading day so far")
    session_low: Price | None = Field(None, description="index points, trading day so far")
    session_volume: NonNegative | None = Field(None, description="contracts, trading day so far")
    bid: Price | None = Field(None, description="index points")
    ask: Price | None = Field(None, description="index points")
    spread_ticks: Annotated[float, Field(ge=0.0, le=10.0)] | None = Field(None, description="ticks")
    order_book_imbalance: Signed | None = Field(None, description="positive: buying pressure")
    vwap: Level | None = Field(None, description="index points, anchored at the trading day's start")
    vwap_sd1_up: Level | None = Field(None, description="index points")
    vwap_sd1_down: Level | None = Field(None, description="index points")
    vwap_slope: float | None = Field(None, description="points per bar, OLS over the last 15 bars")
    vwap_multi: dict[str, float] = Field(default_factory=dict, description="other VWAPs, index points")
    atr_14: Annotated[float, Field(gt=0.0)] | None = Field(None, description="points, Wilder")
    atr_rank: Unit | None = Field(None, description="rank of ATR14 within the trailing 20 trading days")
    realized_volatility: NonNegative | None = Field(None, description="annualised fraction")
    trend_direction: Literal["up", "down", "flat"] = "flat"
    trend_strength: Unit | None = None
    order_flow: OrderFlow = OrderFlow()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (self.low <= self.open <= self.high and self.low <= self.close <= self.high):
            raise ValueError(
                f"open {self.open}, high {self.high}, low {self.low}, close {self.close}; low <= open, close <= high must hold"
            )
        if self.bid is not None and self.ask is not None and self.ask < self.bid:
            raise ValueError(f"ask {self.ask} < bid {self.bid}")
        bands = (self.vwap_sd1_down, self.vwap, self.vwap_sd1_up)
        if None not in bands and not bands[0] <= bands[1] <= bands[2]:  # type: ignore[operator]
            raise ValueError(f"vwap {self.vwap} outside its bands {self.vwap_sd1_down}..{self.vwap_sd1_up}")
        return self


class Boules(Contract):
    """The state of the coloured bars and of the Vikings/Defenders fight (DOMAIN C.1, C.2)."""

    colours: str = Field("", description="last closed bars, oldest first: g green, r red, n neutral")
    green_run: CountOrZero | None = Field(None, description="bars")
    red_run: CountOrZero | None = Field(None, description="bars")
    vikings_strength: Unit | None = None
    defenders_strength: Unit | None = None
    battle_status: Literal["vikings_winning", "defenders_winning", "balanced_fight", "no_battle"] = "no_battle"


class Base(Contract):
    """The most recent consolidation zone (DOMAIN C.3); `type` none when there is none."""

    type: Literal["green", "red", "neutral", "none"] = "none"
    high: Level | None = Field(None, description="index points")
    low: Level | None = Field(None, description="index points")
    size_ticks: NonNegative | None = Field(None, description="ticks")
    duration_bars: CountOrZero | None = Field(None, description="bars")
    quality: Unit | None = None


class BattleNavale(Contract):
    """What the rule strategy saw (DOMAIN A.4)."""

    direction: Direction
    signal_type: Literal["LONG_TREND", "LONG_RANGE", "SHORT_TREND", "SHORT_RANGE", "NO_SIGNAL"]
    bn_signal: Signed = Field(description="signed score s, DOMAIN C.4")
    signal_strength: Unit
    confidence: Unit = Field(description="the strategy's own confidence, DOMAIN C.5")
    boules_state: Boules = Boules()
    base: Base = Base()
    trend_continuation: Annotated[float, Field(ge=-0.6, le=0.6)] | None = Field(None, description="golden-rule term tc, DOMAIN C.4")
    rouge_sous_verte_valid: bool | None = None
    golden_rule_status: Literal["strong_bullish", "weak_bullish", "strong_bearish", "weak_bearish", "violation_confirmed", "unclear"] = (
        "unclear"
    )
    pattern_type: Literal[
        "battle_navale",
        "long_down_up_bar",
        "long_up_down_bar",
        "color_down_setting",
        "gamma_pin",
        "headfake",
        "microstructure",
        "confluence",
        "breakout",
        "none",
    ] = "none"
    pattern_quality: Unit | None = Field(None, description="strongest detected Sierra pattern, DOMAIN C.6")
    base_strength: Unit | None = None
    trend_regime: Literal["trend_bullish", "trend_bearish", "range_tight", "range_wide", "transition", "unknown"] = "unknown"
    confluence_score: Unit | None = None
    confluence_components: dict[str, float] = Field(default_factory=dict)
    decision_reasoning: str = ""
    filters_passed: tuple[str, ...] = ()
    filters_failed: tuple[str, ...] = ()


class MarketStructure(Contract):
    """Levels, options and the other index (DOMAIN A.5)."""

    call_wall: Level | None = Field(None, description="ES-equivalent index points")
    put_wall: Level | None = Field(None, description="ES-equivalent index points")
    gamma_flip: Level | None = Field(None, description="zero gamma, ES-equivalent index points")
    net_gamma: float | None = Field(None, description="billions of USD per 1 % move")
    total_gamma_exposure: NonNegative | None = Field(None, description="USD")
    dealer_gamma_position: Literal["long", "short", "neutral"] | None = None
    call_volume: NonNegative | None = Field(None, description="contracts")
    put_volume: NonNegative | None = Field(None, description="contracts")
    call_oi: NonNegative | None = Field(None, description="contracts")
    put_oi: NonNegative | None = Field(None, description="contracts")
    put_call_ratio: NonNegative | None = Field(None, description="of open interest")
    put_call_volume_ratio: NonNegative | None = Field(None, description="of volume")
    options_asof: Utc | None = Field(None, description="time of the option data")
    vix_level: Annotated[float, Field(gt=0.0)] | None = Field(None, description="VIX points")
    term_structure_slope: float | None = None
    vol_skew_25_delta: float | None = None
    nearby_pin_levels: tuple[Level, ...] = ()
    days_to_monthly_expiry: CountOrZero | None = Field(None, description="calendar days")
    days_to_weekly_expiry: CountOrZero | None = Field(None, description="calendar days")
    poc: Level | None = Field(None, description="developing, index points")
    vah: Level | None = Field(None, description="developing, index points")
    val: Level | None = Field(None, description="developing, index points")
    ppoc: Level | None = Field(None, description="previous trading day, index points")
    pvah: Level | None = Field(None, description="previous trading day, index points")
    pval: Level | None = Field(None, description="previous trading day, index points")
    volume_clusters: Annotated[tuple[Level, ...], Field(max_length=MAX_CLUSTERS)] = Field((), description="index points")
    prev_session_high: Level | None = Field(None, description="index points")
    prev_session_low: Level | None = Field(None, description="index points")
    overnight_high: Level | None = Field(None, description="index points")
    overnight_low: Level | None = Field(None, description="index points")
    es_nq_correlation: Signed | None = Field(None, description="of log returns, last 50 bars")
    nq_price: Level | None = Field(None, description="index points")
    divergence_signal: float | None = None
    leader: Literal["ES", "NQ"] | None = None

    @model_validator(mode="after")
    def _value_areas(self) -> Self:
        for low, mid, high in ((self.val, self.poc, self.vah), (self.pval, self.ppoc, self.pvah)):
            if low is not None and mid is not None and high is not None and not low <= mid <= high:
                raise ValueError(f"value area {low}, {mid}, {high}; val <= poc <= vah must hold")
        return self


class ExecutionContext(Contract):
    """What the strategy plans to do, and when in the session (DOMAIN A.6, T0 part)."""

    entry_reason: str = ""
    planned_size: Count = Field(description="contracts")
    stop_loss_price: Price = Field(description="index points")
    take_profit_price: Price = Field(description="index points")
    stop_ticks: Annotated[float, Field(gt=0.0)] = Field(description="ticks")
    target_ticks: Annotated[float, Field(gt=0.0)] = Field(description="ticks")
    risk_reward_ratio: Annotated[float, Field(gt=0.0)]
    max_risk_dollars: Annotated[float, Field(gt=0.0)] = Field(description="USD, the denominator of R")
    session_phase: Literal["overnight", "pre_market", "open", "morning", "lunch", "midday", "afternoon", "close", "after_hours"]
    time_since_open_minutes: Whole | None = Field(None, description="minutes; negative before the open")
    time_to_close_minutes: Whole | None = Field(None, description="minutes")
    day_of_week: Annotated[int, Field(ge=0, le=6)] | None = Field(None, description="Monday 0, New York")
    month_of_year: Annotated[int, Field(ge=1, le=12)] | None = None
    week_of_month: Annotated[int, Field(ge=1, le=6)] | None = None
    economic_events_today: tuple[str, ...] = ()
    high_impact_event_today: bool | None = None
    overnight_gap_percent: float | None = Field(None, description="percent")
    premarket_volume_ratio: NonNegative | None = None
    volatility_regime: Literal["low_vol", "normal_vol", "high_vol", "extreme_vol"] | None = None


class Microstructure(Contract):
    """Optional book and tape detail (DOMAIN A.8)."""

    tick_direction: Literal["up", "down", "same"] | None = None
    upticks_last_20: CountOrZero | None = None
    downticks_last_20: CountOrZero | None = None
    tick_momentum_score: Signed | None = None
    large_orders_bias: Signed | None = None
    aggressive_buy_ratio: Unit | None = None
    aggressive_sell_ratio: Unit | None = None
    volume_spike_detected: bool | None = None
    data_quality_score: Unit | None = None
    latency_ms: NonNegative | None = Field(None, description="ms")


class Signal(Contract):
    """One decision of the rule strategy, as known at `decision_time` (the close of the last bar)."""

    snapshot_type: Literal["decision"] = "decision"
    schema_version: SchemaVersion
    trade_id: TradeId
    recorded_at: Utc = Field(description="when the record was written; of two records of a trade the later wins")
    decision_time: Utc = Field(description="close of the last bar; no field may be known later")
    symbol: Symbol
    data_source: DataSource
    arm: Literal["baseline", "ml"] | None = Field(None, description="A/B arm; never a feature")
    model_version: str | None = Field(None, description="never a feature")
    ml_score: Unit | None = Field(None, description="never a feature")
    capture_time_ms: NonNegative | None = Field(None, description="ms")
    market_state: MarketState
    battle_navale: BattleNavale
    market_structure: MarketStructure
    execution_context: ExecutionContext
    microstructure: Microstructure = Microstructure()
    bars: BarWindow

    @model_validator(mode="after")
    def _nothing_from_later(self) -> Self:
        starts = self.bars.start
        length = min(map(sub, starts[1:], starts))
        age = self.decision_time.timestamp() - (starts[-1] + length)
        if age < 0.0:
            raise ValueError(
                f"the last bar (start {starts[-1]}, {length} s long) closes {-age:.15g} s after decision_time "
                f"{self.decision_time.isoformat()}; send closed bars only"
            )
        if age > MAX_BAR_AGE_S:
            raise ValueError(
                f"the last bar (start {starts[-1]}, {length} s long) closed {age:.15g} s before decision_time "
                f"{self.decision_time.isoformat()}; expected at most {MAX_BAR_AGE_S} s"
            )
        asof = self.market_structure.options_asof
        if asof is not None and asof > self.decision_time:
            raise ValueError(f"options_asof {asof.isoformat()} is after decision_time {self.decision_time.isoformat()}")
        close = self.market_state.close
        if self.bars.close[-1] != close:
            raise ValueError(f"market_state.close {close} differs from the last bar's close {self.bars.close[-1]}")
        plan = self.execution_context
        stop, target = plan.stop_loss_price, plan.take_profit_price
        if self.battle_navale.direction == "SHORT":
            stop, target = target, stop
        if not stop < close < target:
            raise ValueError(
                f"stop {plan.stop_loss_price} and target {plan.take_profit_price} are not on the two sides of "
                f"close {close} that a {self.battle_navale.direction} needs"
            )
        return self
