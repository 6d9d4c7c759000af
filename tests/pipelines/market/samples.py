"""Small markets for the tests: valid bars from a random walk, and a synthetic market with a roll, holes and options."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from pipelines.market.inputs import MarketInputs, no_quarantine
from pipelines.market.synthetic import synthesise
from pipelines.settings import Settings, load_settings

ROLL_GAP = 41.25


def settings_with(*overrides: str) -> Settings:
    return load_settings(overrides=overrides)


def bars_at(ts: pd.DatetimeIndex, seed: int = 0, level: float = 5000.0) -> pd.DataFrame:
    """A random walk on the tick grid over the given bar starts."""
    rng = np.random.default_rng(seed)
    close = level + np.rint(rng.normal(0, 8, len(ts))).cumsum() / 4
    opened = np.concatenate([[level], close[:-1]])
    high = np.maximum(opened, close) + rng.integers(0, 6, len(ts)) / 4
    low = np.minimum(opened, close) - rng.integers(0, 6, len(ts)) / 4
    volume = rng.integers(1, 2000, len(ts)).astype(np.float64)
    return pd.DataFrame({"ts": ts.as_unit("ns"), "open": opened, "high": high, "low": low, "close": close, "volume": volume})


def utc(text: str) -> pd.Timestamp:
    return pd.Timestamp(text, tz="UTC")


def new_york_range(start: str, end: str, minutes: int = 5) -> pd.DatetimeIndex:
    """Bar starts from `start` (New York wall clock) up to, and without, `end`."""
    times = pd.date_range(
        pd.Timestamp(start, tz="America/New_York"), pd.Timestamp(end, tz="America/New_York"), freq=f"{minutes}min", inclusive="left"
    )
    return times.tz_convert("UTC")


def inputs_of(bars: pd.DataFrame, minutes: int = 5, **changes: Any) -> MarketInputs:
    plain = MarketInputs(bars, None, None, None, minutes, "replay", (), no_quarantine())
    return dataclasses.replace(plain, **changes)


def rolling_inputs(settings: Settings, seed: int) -> MarketInputs:
    """A synthetic market in which the contract rolls in the middle, and both indices miss some bars."""
    made = synthesise(settings, seed)
    rng = np.random.default_rng(seed)
    new_day = np.flatnonzero(made.bars["ts"].diff() > pd.Timedelta("5min"))
    roll = int(new_day[len(new_day) // 2])
    bars = made.bars.copy()
    after = np.arange(len(bars)) >= roll
    for name in ("open", "high", "low", "close"):
        bars[name] += np.where(after, ROLL_GAP, 0.0)
    bars["adj"] = np.where(after, 0.0, ROLL_GAP)
    bars["roll"] = np.arange(len(bars)) == roll
    keep = rng.random(len(bars)) > 0.02
    keep[roll] = True
    nq_keep = rng.random(len(bars)) > 0.05
    return dataclasses.replace(made, bars=bars[keep].reset_index(drop=True), nq=made.nq[nq_keep].reset_index(drop=True))
