"""Sierra patterns, each confirmed by the bar after its middle (DOMAIN C.6).

The last closed bar is the pattern's bar +1, so the middle bar lies one bar back: a pattern is
known one bar later than it is drawn, and nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.settings import Baseline

Floats = NDArray[np.float64]

PATTERNS = ("none", "long_down_up_bar", "long_up_down_bar", "color_down_setting")

DETECTED = 0.1
"""Strength above which a pattern counts as seen."""
REACH_WEIGHT = 0.7
VOLUME_WEIGHT = 0.3
COLOR_WEIGHT = 0.8


@dataclass(frozen=True)
class Patterns:
    """The strongest pattern at each bar.

    Attributes
    ----------
    strength
        In [0, 1]; 0 where none is seen.
    kind
        Index into `PATTERNS`.
    """

    strength: Floats
    kind: NDArray[np.int8]


def find_patterns(
    opened: Floats, high: Floats, low: Floats, close: Floats, volume: Floats, reference: Floats, unit: Floats, settings: Baseline
) -> Patterns:
    """Look for the three patterns whose bar +1 is each bar.

    Parameters
    ----------
    opened, high, low, close
        Shape (n,), index points, continuous across rolls.
    volume, reference
        Volume and its reference at each bar, contracts.
    unit
        Points of one unit of `settings.distances` at each bar.
    settings
        The baseline section.
    """
    reach = settings.distances.pattern_reach * unit
    color_reach = settings.distances.color_reach * unit
    before, middle = (
        (_back(opened, 2), _back(high, 2), _back(low, 2), _back(close, 2)),
        (_back(opened, 1), _back(high, 1), _back(low, 1), _back(close, 1)),
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = np.minimum(_back(volume, 1) / reference, 1.0)
        strengths = np.stack(
            [
                np.full(close.size, DETECTED),
                _down_up(before, middle, (opened, high, low, close), reach, weight),
                _up_down(before, middle, (opened, high, low, close), reach, weight),
                _color_down(_back(high, 3), _back(low, 3), _back(close, 3), before, middle, (opened, high, low, close), color_reach),
            ]
        )
    strengths = np.where(np.isnan(strengths), 0.0, strengths)
    kind = strengths.argmax(axis=0).astype(np.int8)
    strength = np.where(kind > 0, strengths.max(axis=0), 0.0)
    return Patterns(np.minimum(strength, 1.0), kind)


Bar = tuple[Floats, Floats, Floats, Floats]


def _down_up(before: Bar, middle: Bar, after: Bar, reach: Floats, weight: Floats) -> Floats:
    _, high_1, _, close_1 = before
    open0, _, low0, close0 = middle
    opened, high, _, _ = after
    seen = (open0 < close_1) & (high_1 > low0 + reach) & (opened > close0) & (high > low0 + reach) & (high > high_1)
    return np.where(seen, REACH_WEIGHT * np.minimum((high_1 - low0) / (2.0 * reach), 1.0) + VOLUME_WEIGHT * weight, 0.0)


def _up_down(before: Bar, middle: Bar, after: Bar, reach: Floats, weight: Floats) -> Floats:
    _, _, low_1, close_1 = before
    open0, high0, _, close0 = middle
    opened, _, low, _ = after
    seen = (open0 > close_1) & (high0 > low_1 + reach) & (opened < close0) & (high0 > low + reach) & (low < low_1)
    return np.where(seen, REACH_WEIGHT * np.minimum((high0 - low_1) / (2.0 * reach), 1.0) + VOLUME_WEIGHT * weight, 0.0)


def _color_down(high_2: Floats, low_2: Floats, close_2: Floats, before: Bar, middle: Bar, after: Bar, reach: Floats) -> Floats:
    open_1, high_1, low_1, _ = before
    _, high0, low0, close0 = middle
    opened, _, low, _ = after
    second = (opened < close0) & (high0 > low + reach) & (low < low0)
    first = (open_1 < close_2) & (high_2 > low_1 + reach) & (low_1 < low_2)
    return np.where(first & second & (high0 < high_1), COLOR_WEIGHT * np.minimum((high_2 - low_1) / (2.0 * reach), 1.0), 0.0)


def _back(values: Floats, bars: int) -> Floats:
    """The values `bars` bars earlier, NaN at the start (every comparison with NaN is false)."""
    shifted = np.full(values.size, np.nan)
    shifted[bars:] = values[: values.size - bars]
    return shifted
