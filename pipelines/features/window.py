"""The window: the 32 closed bars of a `Signal` as six channels for the LSTM, a function of the `Signal` alone.

The window is side-aligned (a short looks like the long in the mirrored market) and free of
scale: prices are measured in the mean true range of the window itself, volume in its mean
volume. Values are representable in float32, so that training and serving see the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.contracts.base import TICK, WINDOW_BARS, ContractError
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import BAR_FIELDS, SignalTable
from pipelines.features.twelve import BLOCK_ROWS

Floats = NDArray[np.float64]

CHANNELS = ("move", "close_position", "bar_range", "distance", "volume", "gap")
"""Last axis of a window, bar by bar, `side` +1 long and -1 short, `unit` the mean true range of the window:

- `move`: side * (close - previous close) / unit; the first bar takes its open for the close before.
- `close_position`: side * place of the close in the bar, -1 at the low, 1 at the high; 0 for a bar without range.
- `bar_range`: (high - low) / unit.
- `distance`: side * (close - last close) / unit.
- `volume`: log(1 + volume / mean volume of the window); 0 when nothing was traded.
- `gap`: log of the step from the bar before in bar lengths; 0 for the next bar, above 0 after a break.
"""

WINDOW_VERSION = "1"
"""Version of the channels; a model is served only by the version that it was trained with."""

LIMIT = 20.0
"""Values are clipped to [-20, 20]: one jump in a dead market would otherwise outweigh all else."""

_START, _OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = range(len(BAR_FIELDS))


def compute_windows(signals: SignalTable) -> Floats:
    """Compute the windows of a table of signals.

    Parameters
    ----------
    signals
        n signals.

    Returns
    -------
    ndarray
        Shape (n, 32, 6), last axis `CHANNELS`, finite, in [-20, 20]; every value is a float32.

    Raises
    ------
    ContractError
        A bar holds NaN or infinity, or the bars of a signal are not in order of time.
    """
    side = np.where((signals.frame["battle_navale.direction"] == "LONG").to_numpy(bool), 1.0, -1.0)
    return windows_of_bars(signals.bars, side)


def compute_window_one(signal: Signal) -> Floats:
    """Compute the window of one signal, by the same code; shape (32, 6)."""
    bars = signal.bars
    columns = np.array((bars.start, bars.open, bars.high, bars.low, bars.close, bars.volume), dtype=np.float64)
    side = np.array([1.0 if signal.battle_navale.direction == "LONG" else -1.0])
    window: Floats = windows_of_bars(columns.T[np.newaxis], side)[0]
    return window


def windows_of_bars(bars: Floats, side: Floats) -> Floats:
    """Compute windows from plain arrays.

    Parameters
    ----------
    bars
        Shape (n, 32, 6): start (Unix seconds), open, high, low, close (index points), volume (contracts); oldest first.
    side
        Shape (n,): +1 long, -1 short.

    Returns
    -------
    ndarray
        Shape (n, 32, 6) as of `compute_windows`.

    Raises
    ------
    ContractError
        Another number of bars or columns, a bar with NaN or infinity, bars that are not in order of time.
    """
    _check(bars)
    windows = np.empty((len(bars), WINDOW_BARS, len(CHANNELS)))
    for begin in range(0, len(bars), BLOCK_ROWS):
        rows = slice(begin, begin + BLOCK_ROWS)
        windows[rows] = _channels(bars[rows], side[rows])
    return windows


def _channels(bars: Floats, side: Floats) -> Floats:
    # One layout for one row and for many: the order of a sum and the rounding of a logarithm may follow the layout.
    start, opened, high, low, close, volume = np.ascontiguousarray(bars.transpose(2, 0, 1))
    side = side[:, np.newaxis]
    # Before the first bar stands its own open, which lies within its range.
    before = np.concatenate([opened[:, :1], close[:, :-1]], axis=1)
    true_range = np.maximum(high, before) - np.minimum(low, before)
    unit = true_range.mean(axis=1, keepdims=True)
    unit = np.where(unit > 0.0, unit, TICK)
    span = high - low
    steps = np.diff(start, axis=1)
    bar_length = steps.min(axis=1, keepdims=True)
    usual = volume.mean(axis=1, keepdims=True)
    channels = (
        side * (close - before) / unit,
        # The difference of the two distances, because 2 * share - 1 rounds unlike its mirror image.
        side * _ratio((close - low) - (high - close), span),
        span / unit,
        side * (close - close[:, -1:]) / unit,
        np.log1p(_ratio(volume, usual)),
        np.log(np.concatenate([bar_length, steps], axis=1) / bar_length),
    )
    values = np.clip(np.stack(channels, axis=2), -LIMIT, LIMIT)
    # A short's zero is a negative one; adding zero makes it the long's.
    return values.astype(np.float32).astype(np.float64) + 0.0


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0.0)


def _check(bars: Floats) -> None:
    if bars.ndim != 3 or bars.shape[1:] != (WINDOW_BARS, len(BAR_FIELDS)):
        found = f"{bars.shape[1]} bars of {bars.shape[2]} columns" if bars.ndim == 3 else f"an array of shape {bars.shape}"
        raise ContractError(
            f"a window of {found}",
            limit=f"{WINDOW_BARS} closed bars of {len(BAR_FIELDS)} columns ({', '.join(BAR_FIELDS)})",
            remedy=f"give the last {WINDOW_BARS} closed bars; a market with fewer has no signal yet",
        )
    finite = np.isfinite(bars)
    if not finite.all():
        bad = np.argwhere(~finite)
        row, bar, field = (int(position) for position in bad[0])
        raise ContractError(
            f"window {row}: {BAR_FIELDS[field]} of bar {bar} is {bars[row, bar, field]}; {len(bad)} value(s) are not finite",
            limit="finite numbers",
            remedy="mend the source of the bars or leave the signal out",
        )
    later = bars[:, 1:, _START] > bars[:, :-1, _START]
    if not later.all():
        row, bar = (int(position) for position in np.argwhere(~later)[0])
        raise ContractError(
            f"window {row}: bar {bar + 1} starts at {bars[row, bar + 1, _START]:.0f}, not after the bar before it",
            limit="starts that strictly increase",
            remedy="sort the bars by their start, each once",
        )
