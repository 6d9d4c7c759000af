"""What the features read from a signal, as arrays: one row per signal.

The same arrays are filled from one `Signal` (a request) or from a `SignalTable` (training), so
both go through one implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from pipelines.contracts.base import MAX_CLUSTERS
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import SignalTable

Floats = NDArray[np.float64]

SCALARS = (
    "market_state.close",
    "market_state.vwap",
    "market_state.vwap_sd1_up",
    "market_state.vwap_sd1_down",
    "market_state.vwap_slope",
    "market_state.atr_14",
    "market_state.atr_rank",
    "market_state.spread_ticks",
    "market_state.order_flow.net_delta",
    "market_state.order_flow.bid_volume",
    "market_state.order_flow.ask_volume",
    "market_state.order_flow.aggressive_buys",
    "market_state.order_flow.aggressive_sells",
    "battle_navale.bn_signal",
    "battle_navale.base.quality",
    "battle_navale.trend_continuation",
    "battle_navale.pattern_quality",
    "market_structure.call_wall",
    "market_structure.put_wall",
    "market_structure.gamma_flip",
    "market_structure.net_gamma",
    "market_structure.put_call_ratio",
    "market_structure.call_volume",
    "market_structure.put_volume",
    "market_structure.vix_level",
    "market_structure.poc",
    "market_structure.vah",
    "market_structure.val",
    "market_structure.ppoc",
    "market_structure.pvah",
    "market_structure.pval",
    "market_structure.es_nq_correlation",
)
"""Numeric fields of `Signal` that the features may read; all are known at decision time."""

_read_scalars = attrgetter(*SCALARS)


@dataclass(frozen=True)
class FeatureInputs:
    """The T0 values of n signals.

    Attributes
    ----------
    values
        For each of `SCALARS` an array of shape (n,), NaN where the signal lacks it.
    side
        Shape (n,): +1 long, -1 short.
    seconds
        Shape (n,): decision time, Unix seconds UTC.
    options_age_s
        Shape (n,): age of the option data at decision time, seconds; NaN without option data.
    bars
        Shape (n, 32, 6): start, open, high, low, close, volume; oldest first.
    clusters
        Shape (n, 8): volume clusters, NaN padded.
    """

    values: Mapping[str, Floats]
    side: Floats
    seconds: NDArray[np.int64]
    options_age_s: Floats
    bars: Floats
    clusters: Floats

    def __getitem__(self, name: str) -> Floats:
        return self.values[name]

    def __len__(self) -> int:
        return len(self.side)

    def rows(self, rows: slice) -> FeatureInputs:
        """Some of the signals, without copying."""
        values = {name: column[rows] for name, column in self.values.items()}
        return FeatureInputs(values, self.side[rows], self.seconds[rows], self.options_age_s[rows], self.bars[rows], self.clusters[rows])

    @classmethod
    def of_table(cls, signals: SignalTable) -> FeatureInputs:
        """Read the columns of a table."""
        frame = signals.frame
        decided = frame["decision_time"].astype("int64").to_numpy(np.int64) / 1e6
        asof = frame["market_structure.options_asof"]
        known = asof.notna().to_numpy()
        age = np.full(len(frame), np.nan)
        age[known] = decided[known] - asof[known].astype("int64").to_numpy(np.int64) / 1e6
        return cls(
            values={name: frame[name].to_numpy(np.float64) for name in SCALARS},
            side=np.where((frame["battle_navale.direction"] == "LONG").to_numpy(), 1.0, -1.0),
            seconds=decided.astype(np.int64),
            options_age_s=age,
            bars=signals.bars,
            clusters=signals.clusters,
        )

    @classmethod
    def of_signal(cls, signal: Signal) -> FeatureInputs:
        """Read one signal: arrays of one row."""
        scalars = np.array([np.nan if value is None else value for value in _read_scalars(signal)], dtype=np.float64)
        bars = signal.bars
        window = np.array((bars.start, bars.open, bars.high, bars.low, bars.close, bars.volume), dtype=np.float64)
        clusters = np.full((1, MAX_CLUSTERS), np.nan)
        levels = signal.market_structure.volume_clusters
        clusters[0, : len(levels)] = levels
        decided = signal.decision_time.timestamp()
        asof = signal.market_structure.options_asof
        return cls(
            values={name: scalars[position : position + 1] for position, name in enumerate(SCALARS)},
            side=np.array([1.0 if signal.battle_navale.direction == "LONG" else -1.0]),
            seconds=np.array([int(decided)], dtype=np.int64),
            options_age_s=np.array([np.nan if asof is None else decided - asof.timestamp()]),
            bars=window.T[np.newaxis],
            clusters=clusters,
        )
