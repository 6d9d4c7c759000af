"""Bars from a file: columns and time zone checked, bad rows put aside one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.errors import InputError
from pipelines.market.calendar import unix_seconds
from pipelines.market.files import numbers, quarantine, read_table, read_times
from pipelines.market.inputs import BAR_COLUMNS, OPTIONAL_BAR_COLUMNS
from pipelines.new_york import FIRST_YEAR, LAST_YEAR
from pipelines.settings import Instrument

_PRICES = ("open", "high", "low", "close")
_OPTIONAL_NUMBERS = ("adj", "bid_volume", "ask_volume", "spread_ticks")
_BANDED = ("ES", "MES")
"""Instruments whose prices the band of the settings describes."""

BAR_MINUTES = (1, 5)
NANOSECONDS = 1_000_000_000
MAX_SPREAD_TICKS = 10.0
"""Widest spread that a signal can carry (DOMAIN A.3)."""
MAX_BAD_SHARE = 0.5
"""Share of bad rows beyond which a file is not bars with faults but something else."""


def read_bars(path: Path, instrument: Instrument, max_median_ratio: float) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Read bars from Parquet or CSV.

    Parameters
    ----------
    path
        Columns `BAR_COLUMNS`: `ts` is the start of the bar with a time zone, prices in index points,
        volume in contracts; and any of `OPTIONAL_BAR_COLUMNS`.
    instrument
        Symbol and price band.
    max_median_ratio
        Factor to the median close beyond which a price is refused.

    Returns
    -------
    bars
        The valid rows, sorted by `ts` (UTC), one per time; spreads of more than `MAX_SPREAD_TICKS`
        are missing, `adj` is on the tick grid.
    quarantined
        The refused rows, columns `QUARANTINE_COLUMNS`: not a number, high below low, open or close
        outside, not positive, outside the band (ES and MES), far from the median close, off the tick
        grid, off the time grid, of years without a calendar, negative volume, an `adj` as large as a
        price, several different bars at one time (all of them: nothing tells the right one).
    notes
        How many rows were out of order, doubled or refused, how many spreads and `adj` were mended.

    Raises
    ------
    InputError
        The file cannot be used as a whole: see `read_table` and `read_times`; no valid rows, more
        than half of the rows bad, bars that are not of 1 or 5 minutes, or an `adj` by which prices
        would be negative.
    """
    raw = read_table(path, BAR_COLUMNS, OPTIONAL_BAR_COLUMNS)
    bars, mended = _mended(path, _typed(path, raw), instrument.tick_size)
    reasons = _faults(bars, instrument, max_median_ratio)
    valid = bars[(reasons == "").to_numpy()]
    doubled = valid.duplicated(keep="first").to_numpy()
    unique = valid[~doubled]
    conflicting = unique.duplicated("ts", keep=False).to_numpy()
    reasons[unique.index[conflicting]] = "several different bars at one time"
    unique = unique[~conflicting]
    _refuse_if_mostly_bad(path, len(raw), reasons[reasons != ""])

    minutes = bar_minutes(path, unique["ts"])
    off_grid = unique["ts"].astype("int64").to_numpy() % (60 * minutes * NANOSECONDS) != 0
    reasons[unique.index[off_grid]] = f"ts off the {minutes}-minute grid"
    unique = unique[~off_grid]
    bad = reasons[reasons != ""]
    _refuse_if_mostly_bad(path, len(raw), bad)
    in_order = unique["ts"].is_monotonic_increasing
    if not in_order:
        unique = unique.sort_values("ts", kind="stable")
    _refuse_negative_prices(path, unique)
    notes = _notes(path, unique, bad, int(doubled.sum()), in_order=in_order)
    return unique.reset_index(drop=True), quarantine(path, raw, bad), (*mended, *notes)


def bar_minutes(path: Path, times: pd.Series) -> int:
    """Length of the bars: the most frequent difference of their starts, in minutes.

    Raises
    ------
    InputError
        Fewer than two bars, or bars that are not of 1 or 5 minutes.
    """
    steps = np.diff(np.unique(unix_seconds(times)))
    if not len(steps):
        raise InputError(f"{path} has {len(times)} valid bar(s)", limit="at least 2", remedy="give a longer file")
    lengths, counts = np.unique(steps, return_counts=True)
    seconds = int(lengths[np.argmax(counts)])
    if seconds not in [60 * minutes for minutes in BAR_MINUTES]:
        raise InputError(f"{path} has bars of {seconds / 60:g} minutes", limit="bars of 1 or 5 minutes", remedy="export the bars again")
    return seconds // 60


def _typed(path: Path, raw: pd.DataFrame) -> pd.DataFrame:
    columns: dict[str, object] = {"ts": read_times(path, raw["ts"])}
    for name in (*_PRICES, "volume", *_OPTIONAL_NUMBERS):
        if name in raw:
            columns[name] = numbers(raw[name])
    if "contract" in raw:
        columns["contract"] = raw["contract"].astype("str")
    if "roll" in raw:
        columns["roll"] = raw["roll"].astype("str").str.lower().isin(("true", "1", "1.0")).to_numpy()
    return pd.DataFrame(columns, index=raw.index)


def _mended(path: Path, bars: pd.DataFrame, tick: float) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Mend what does not spoil a bar, and tell it."""
    notes = []
    if "spread_ticks" in bars:
        wide = bars["spread_ticks"] > MAX_SPREAD_TICKS
        bars = bars.assign(spread_ticks=bars["spread_ticks"].mask(wide))
        if wide.any():
            notes.append(f"{path.name}: spread_ticks of {wide.sum()} row(s) above {MAX_SPREAD_TICKS:g} ticks; read as missing")
    if "adj" in bars:
        # Levels and older bars are moved by differences of adj, and have to stay on the tick grid.
        on_grid = np.rint(bars["adj"] / tick) * tick
        moved = np.isfinite(bars["adj"]) & (on_grid != bars["adj"])
        bars = bars.assign(adj=on_grid)
        if moved.any():
            notes.append(f"{path.name}: adj of {moved.sum()} row(s) off the tick grid of {tick:g}; rounded to it")
    return bars, tuple(notes)


def _faults(bars: pd.DataFrame, instrument: Instrument, max_median_ratio: float) -> pd.Series:
    """The first fault of each row as text, "" for a valid row."""
    reasons = pd.Series("", index=bars.index, dtype=object)

    def mark(fault: NDArray[np.bool_], reason: str) -> None:
        reasons[fault & (reasons == "").to_numpy()] = reason

    mark(bars["ts"].isna().to_numpy(), "ts is not a time")
    years = bars["ts"].dt.year
    mark(~years.between(FIRST_YEAR, LAST_YEAR - 1).to_numpy(), f"ts outside the years {FIRST_YEAR} to {LAST_YEAR - 1}")
    for name in (*_PRICES, "volume"):
        mark(~np.isfinite(bars[name].to_numpy()), f"{name} is not a finite number")
    for name in _PRICES:
        mark(bars[name].to_numpy() <= 0.0, f"{name} is zero or negative")
    opened, high, low, close = (bars[name].to_numpy() for name in _PRICES)
    mark(high < low, "high is below low")
    mark((opened > high) | (opened < low), "open is outside low..high")
    mark((close > high) | (close < low), "close is outside low..high")
    if instrument.symbol in _BANDED:
        band = f"{instrument.price_min:g}..{instrument.price_max:g}"
        mark((low < instrument.price_min) | (high > instrument.price_max), f"price outside the band {band}")
    median = bars["close"].median()
    far = (low * max_median_ratio < median) | (high > median * max_median_ratio)
    mark(far, f"price further than a factor of {max_median_ratio:g} from the median close {median:g}")
    for name in _PRICES:
        steps = bars[name].to_numpy() / instrument.tick_size
        mark(steps != np.rint(steps), f"{name} is off the tick grid of {instrument.tick_size:g}")
    mark(bars["volume"].to_numpy() < 0.0, "volume is negative")
    for name in ("bid_volume", "ask_volume", "spread_ticks"):
        if name in bars:
            mark(bars[name].to_numpy() < 0.0, f"{name} is negative")
            mark(np.isinf(bars[name].to_numpy()), f"{name} is not a finite number")
    if "adj" in bars:
        adj = bars["adj"].to_numpy()
        mark(~np.isfinite(adj), "adj is not a finite number")
        mark(np.abs(adj - bars["adj"].median()) >= median, "adj is as far from the median adj as a whole price")
    return reasons


def _refuse_negative_prices(path: Path, bars: pd.DataFrame) -> None:
    """Every price must stay positive in the terms of any other bar's contract."""
    if "adj" not in bars:
        return
    adj, low = bars["adj"], bars["low"]
    if (low + adj).min() <= adj.max():
        raise InputError(
            f"{path}: adj runs from {adj.min():g} to {adj.max():g}, by which prices (from {low.min():g}) become negative",
            limit="adj in index points, such that close + adj is continuous and less the adj of any other bar positive",
            remedy="mend adj, or leave the column out",
        )


def _refuse_if_mostly_bad(path: Path, rows: int, bad: pd.Series) -> None:
    if rows == 0 or len(bad) == rows or len(bad) > MAX_BAD_SHARE * rows:
        counts = ", ".join(f"{count} x {reason}" for reason, count in bad.value_counts().head(3).items())
        raise InputError(
            f"{path}: {len(bad)} of {rows} rows are bad" + (f" ({counts})" if counts else ""),
            limit="at least one valid row, and no more than half of the rows bad",
            remedy="check that the file holds bars of this instrument, in its unadjusted prices",
        )


def _notes(path: Path, bars: pd.DataFrame, bad: pd.Series, doubled: int, *, in_order: bool) -> tuple[str, ...]:
    notes = []
    if not in_order:
        notes.append(f"{path.name}: the bars were not in order of time; sorted")
    if doubled:
        notes.append(f"{path.name}: {doubled} exact duplicate row(s) dropped")
    if len(bad):
        counts = ", ".join(f"{count} x {reason}" for reason, count in bad.value_counts().items())
        notes.append(f"{path.name}: {len(bad)} row(s) quarantined: {counts}")
    rolls = bool(bars["roll"].iloc[1:].any()) if "roll" in bars else False
    if "adj" not in bars and (rolls or ("contract" in bars and bars["contract"].nunique() > 1)):
        notes.append(f"{path.name}: the contract changes and there is no column adj: levels jump at the rolls")
    return tuple(notes)
