"""`Outcome`: what became known after the decision (T1 fill to T4 post-mortem), and the whole `TradeSnapshot`."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipelines.contracts.base import (
    POINT_VALUE,
    TICK,
    Contract,
    Count,
    CountOrZero,
    NonNegative,
    Price,
    SchemaVersion,
    TradeId,
    Utc,
)
from pipelines.contracts.signal import Signal

MONEY_TOLERANCE = 0.01
"""USD by which a stated PnL may differ from the one that prices, size and commission give."""


R_TOLERANCE = 0.01
"""R, or ticks per contract, by which a stated result may differ from the one that the prices give."""


def _json_only(value: dict[str, Any]) -> dict[str, Any]:
    if value:
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"not plain JSON: {error}") from None
    return value


PostTrade = Annotated[dict[str, Any], AfterValidator(_json_only)]


class ExecutionQuality(Contract):
    """How well the orders were filled (audit only)."""

    entry_slippage_ticks: float | None = Field(None, description="ticks, adverse > 0")
    exit_slippage_ticks: float | None = Field(None, description="ticks, adverse > 0")
    latency_ms: NonNegative | None = Field(None, description="ms")


class Outcome(Contract):
    """How one trade was filled and ended (DOMAIN A.6 T1, A.7)."""

    snapshot_type: Literal["final_result"] = "final_result"
    schema_version: SchemaVersion
    trade_id: TradeId
    recorded_at: Utc = Field(description="when the record was written, not before exit_time; of two records of a trade the later wins")
    entry_time: Utc = Field(description="T1")
    exit_time: Utc = Field(description="T3; the label is known from here on")
    order_id: str | None = None
    order_type: Literal["MKT", "LMT", "STP", "STP_LMT", "TRAIL"] | None = None
    price_requested: Price | None = Field(None, description="index points")
    entry_price: Price = Field(description="fill, index points")
    quantity_filled: Count = Field(description="contracts")
    execution_time_ms: NonNegative | None = Field(None, description="ms")
    slippage_ticks: float | None = Field(None, description="ticks at entry, adverse > 0")
    bid_at_fill: Price | None = Field(None, description="index points")
    ask_at_fill: Price | None = Field(None, description="index points")
    market_impact: float | None = None
    exit_price: Price = Field(description="fill, index points")
    gross_pnl: float = Field(description="USD")
    commission: NonNegative = Field(description="USD, all contracts, round trip")
    slippage_cost: NonNegative | None = Field(None, description="USD; already inside the fill prices")
    net_pnl: float = Field(description="USD, gross less commission")
    pnl_ticks: float = Field(description="ticks per contract, before commission")
    realized_r: float = Field(description="net_pnl / max_risk_dollars of the signal")
    max_favorable_excursion: NonNegative = Field(description="ticks per contract")
    max_adverse_excursion: NonNegative = Field(description="ticks per contract")
    one_r_first: Literal["plus", "minus", "none"] | None = Field(None, description="which of +1 R and -1 R was touched first")
    time_in_trade_minutes: NonNegative = Field(description="minutes")
    bars_in_trade: CountOrZero = Field(description="bars")
    bars_to_mfe: CountOrZero | None = Field(None, description="bars from entry to the best price")
    exit_reason: Literal["TP", "SL", "TIME", "SIGNAL_REVERSAL", "SPECIAL_EXIT", "SESSION_CLOSE", "MANUAL", "EMERGENCY"]
    ambiguous_bar: bool | None = Field(None, description="stop and target lay inside the exit bar; the stop was assumed")
    execution_quality: ExecutionQuality = ExecutionQuality()
    trade_outcome: Literal["win", "loss", "breakeven"]
    post_trade: PostTrade = Field(default_factory=dict, description="T4, audit only")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.exit_time < self.entry_time:
            raise ValueError(f"exit_time {self.exit_time.isoformat()} is before entry_time {self.entry_time.isoformat()}")
        if self.recorded_at < self.exit_time:
            raise ValueError(
                f"recorded_at {self.recorded_at.isoformat()} is before exit_time {self.exit_time.isoformat()}; "
                "the result cannot have been known then"
            )
        expected = self.gross_pnl - self.commission
        if not abs(self.net_pnl - expected) <= MONEY_TOLERANCE:
            raise ValueError(f"net_pnl {self.net_pnl} differs from gross_pnl - commission = {expected}")
        sign = "win" if self.net_pnl > 0 else "loss" if self.net_pnl < 0 else "breakeven"
        if self.trade_outcome != sign:
            raise ValueError(f"trade_outcome {self.trade_outcome} contradicts net_pnl {self.net_pnl}")
        return self


class TradeSnapshot(Contract):
    """A signal together with its outcome: one example to learn from."""

    signal: Signal
    outcome: Outcome

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        problem = pair_problem(self.signal, self.outcome)
        if problem:
            raise ValueError(problem)
        return self


def pair_problem(signal: Signal, outcome: Outcome) -> str | None:
    """Say why a signal and an outcome cannot be of one trade; None when they can."""
    if signal.trade_id != outcome.trade_id:
        return f"signal {signal.trade_id} and outcome {outcome.trade_id} are of two trades"
    if outcome.entry_time < signal.decision_time:
        return f"entry_time {outcome.entry_time.isoformat()} is before decision_time {signal.decision_time.isoformat()}"
    side = 1.0 if signal.battle_navale.direction == "LONG" else -1.0
    move = side * (outcome.exit_price - outcome.entry_price)
    if not abs(move / TICK - outcome.pnl_ticks) <= R_TOLERANCE:
        return f"pnl_ticks {outcome.pnl_ticks} differs from {move / TICK}, which prices and side give"
    gross = move * POINT_VALUE[signal.symbol] * outcome.quantity_filled
    if not abs(gross - outcome.gross_pnl) <= MONEY_TOLERANCE:
        return f"gross_pnl {outcome.gross_pnl} differs from {gross}, which prices, side and size give"
    realized = outcome.net_pnl / signal.execution_context.max_risk_dollars
    if not abs(realized - outcome.realized_r) <= R_TOLERANCE:
        return f"realized_r {outcome.realized_r} differs from {realized}, which net_pnl and max_risk_dollars give"
    return None
