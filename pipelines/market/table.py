"""The market table: one row per closed bar, every value known at the bar's end.

`pipelines.market` builds it, `pipelines.baseline` walks it. Prefix invariant: row t depends on
rows up to t only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray

from pipelines.contracts.base import MAX_CLUSTERS
from pipelines.contracts.tables import check_schema

PHASES = ("overnight", "pre_market", "open", "midday", "afternoon", "close", "after_hours")
"""Session phases, New York wall clock: DOMAIN B.10."""

_FLOAT = (
    # bar, in the terms of its own contract
    *("open", "high", "low", "close", "volume"),
    # cumulative roll gap known so far: price - offset is continuous across rolls
    "offset",
    # aggressor volumes and spread of the bar, NaN where the feed has none
    *("bid_volume", "ask_volume", "spread_ticks"),
    # minutes from the regular open of the trading day to the bar's end, and to the regular close
    *("minutes_since_open", "minutes_to_close"),
    # trading day so far
    *("session_high", "session_low", "session_volume", "overnight_high", "overnight_low", "overnight_gap_percent"),
    # VWAP anchored at the trading day's start; slope in points per bar
    *("vwap", "vwap_sd1_up", "vwap_sd1_down", "vwap_slope"),
    # volatility and trend
    *("atr_14", "atr_rank", "realized_volatility", "trend_strength"),
    # developing and previous value area; previous trading day's extremes
    *("poc", "vah", "val", "ppoc", "pvah", "pval", "prev_session_high", "prev_session_low"),
    # the other index and VIX
    *("nq_close", "es_nq_correlation", "vix_level"),
    # options, ES-equivalent points; net_gamma in billions of USD per 1 % move
    *("call_wall", "put_wall", "gamma_flip", "net_gamma", "total_gamma_exposure"),
    *("call_volume", "put_volume", "call_oi", "put_oi", "put_call_ratio", "put_call_volume_ratio"),
)
_NEVER_MISSING = frozenset(("open", "high", "low", "close", "volume", "offset", "minutes_since_open", "minutes_to_close"))

MARKET_SCHEMA = pa.DataFrameSchema(
    {
        "ts": pa.Column(pd.DatetimeTZDtype("ns", "UTC"), unique=True),
        "end": pa.Column(pd.DatetimeTZDtype("ns", "UTC"), unique=True),
        "session": pa.Column("datetime64[ns]"),
        "bar_in_session": pa.Column("int64", pa.Check.ge(0)),
        "is_regular": pa.Column(bool),
        "half_day": pa.Column(bool),
        "phase": pa.Column(str, pa.Check.isin(PHASES)),
        "trend_direction": pa.Column("int64", pa.Check.isin((-1, 0, 1))),
        "options_asof": pa.Column(pd.DatetimeTZDtype("ns", "UTC"), nullable=True),
        **{name: pa.Column("float64", nullable=name not in _NEVER_MISSING) for name in _FLOAT},
    },
    strict=True,
    name="market",
)
"""Pandera schema of `Market.frame`. `ts` is the bar's start, `end` = ts + bar length, `session` the trading day."""


@dataclass(frozen=True)
class Market:
    """A market as the rules see it.

    Attributes
    ----------
    frame
        Columns `MARKET_SCHEMA`, sorted by `ts`.
    clusters
        Shape (n, 8): high-volume nodes of the previous trading day, index points, NaN padded.
    bar_minutes
        Length of a bar.
    source
        "replay" for recorded bars, "simulated" for the synthetic market.
    """

    frame: pd.DataFrame
    clusters: NDArray[np.float64]
    bar_minutes: int
    source: str

    def __post_init__(self) -> None:
        if self.clusters.shape != (len(self.frame), MAX_CLUSTERS):
            raise ValueError(f"clusters {self.clusters.shape} must be {(len(self.frame), MAX_CLUSTERS)}")

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> NDArray[Any]:
        """One column as an array."""
        return self.frame[name].to_numpy()

    def validate(self) -> Market:
        """Hold the table against its pandera schema; raises `ContractError`."""
        check_schema(MARKET_SCHEMA, self.frame)
        return self
