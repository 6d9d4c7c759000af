"""Entry conditions as data: which filters each candidate signal passes, and how sure the strategy is (DOMAIN B.14, C.5, C.7)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.baseline.golden_rule import VIOLATED
from pipelines.baseline.score import Score
from pipelines.features.twelve import FEATURES, SIGNED_FEATURES
from pipelines.market.table import Market
from pipelines.settings import Baseline, Replay, Settings

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FILTERS = ("signal", "entry_window", "golden_rule", "base", "spread", "confluence", "confidence")
"""Order in which a filter is blamed when several fail."""

REGULAR_OPEN_MINUTES = 9 * 60 + 30
"""New York wall clock of the regular open; `minutes_since_open` counts from it."""

FULL_CONFIDENCE_SPAN = 0.5
STRENGTH_SLOPE = 4.0
SCORE_SHARE = 0.6
CONFLUENCE_SHARE = 0.4


@dataclass(frozen=True)
class Verdicts:
    """The filters of m candidates.

    Attributes
    ----------
    passed, failed
        Shape (m, len(FILTERS)). Neither holds where a filter cannot be judged (no spread in the feed)
        or is not asked for (no base required).
    """

    passed: Mask
    failed: Mask

    @property
    def all_passed(self) -> Mask:
        """Shape (m,): no filter failed."""
        none_failed: Mask = np.logical_not(self.failed.any(axis=1))
        return none_failed

    def first_failed(self) -> list[str]:
        """Name of the first failed filter of each candidate, "" where none failed."""
        names = np.array([*FILTERS, ""])
        first = np.where(self.failed.any(axis=1), self.failed.argmax(axis=1), len(FILTERS))
        return [str(name) for name in names[first]]


def clock_minutes(market: Market, settings: Replay) -> tuple[Floats, Floats]:
    """Minutes from each bar's end to the last entry and to the moment at which positions must be flat; negative after it."""
    since_open = market.column("minutes_since_open")
    length = since_open + market.column("minutes_to_close")
    flat = np.minimum(_minutes(settings.flat_by), length - settings.half_day_flat_minutes)
    return _minutes(settings.entry_close) - since_open, flat - since_open


def candidates(market: Market, score: Score, settings: Settings) -> NDArray[np.int64]:
    """List the bars at which a signal exists: |s| above the threshold, warmed up, inside the entry window, distances known."""
    replay = settings.replay
    entry_left, flat_left = clock_minutes(market, replay)
    since_open = market.column("minutes_since_open")
    window = market.column("is_regular") & (since_open >= _minutes(replay.entry_open)) & (entry_left >= 0.0) & (flat_left >= 0.0)
    found = (score.side != 0) & window & (score.unit > 0.0)
    found[: replay.warmup_bars] = False
    return np.flatnonzero(found)


def confluence(matrix: Floats, weights: Mapping[str, float]) -> tuple[Floats, dict[str, Floats]]:
    """Weigh the features into one score in [0, 1].

    A feature without data has no vote: the weights of the others are scaled up to 1. Reading it as
    zero instead, as the domain's source did, would put the gate out of reach on a feed without
    options (the strategy would never trade) for a reason that says nothing about the signal.

    Parameters
    ----------
    matrix
        Shape (m, 12), columns `FEATURES`, side-aligned; NaN where missing.
    weights
        Feature name to weight; they sum to 1.

    Returns
    -------
    score, components
        Shape (m,), 0 where nothing is known; and each weighted feature on the 0-1 scale, NaN where missing.
    """
    parts: dict[str, Floats] = {}
    total, voting = np.zeros(len(matrix)), np.zeros(len(matrix))
    for name, weight in weights.items():
        value = matrix[:, FEATURES.index(name)]
        if name in SIGNED_FEATURES:
            value = (value + 1.0) / 2.0
        parts[name] = np.clip(value, 0.0, 1.0)
        known = ~np.isnan(value)
        total += np.where(known, weight * parts[name], 0.0)
        voting += np.where(known, weight, 0.0)
    return np.clip(np.divide(total, voting, out=np.zeros(len(matrix)), where=voting > 0.0), 0.0, 1.0), parts


def confidence(s: Floats, confluence_score: Floats, threshold: float) -> Floats:
    """The strategy's own confidence: 0.6 * min(1, (|s| - threshold) / 0.5) + 0.4 * confluence."""
    beyond = np.clip((np.abs(s) - threshold) / FULL_CONFIDENCE_SPAN, 0.0, 1.0)
    return SCORE_SHARE * beyond + CONFLUENCE_SHARE * confluence_score


def strength(s: Floats, threshold: float) -> Floats:
    """Strength of a signal: min(4 * (|s| - threshold), 1) (DOMAIN A.4)."""
    return np.clip(STRENGTH_SLOPE * (np.abs(s) - threshold), 0.0, 1.0)


def judge(at: NDArray[np.int64], score: Score, spread: Floats, confluence_score: Floats, sureness: Floats, settings: Baseline) -> Verdicts:
    """Hold candidates against every filter.

    Parameters
    ----------
    at
        Shape (m,): decision bars, as `candidates` lists them (signal and window already hold).
    score
        The score of all bars.
    spread
        Shape (m,), ticks; NaN where the feed has none: then it cannot be judged.
    confluence_score, sureness
        Shape (m,).
    settings
        The baseline section.
    """
    side = score.side[at]
    against = (score.rule.status[at] == VIOLATED) & (np.sign(score.rule.continuation[at]) == -side)
    weak_base = ~(score.base_quality[at] >= settings.base_entry_quality)
    always = np.ones(len(at), dtype=bool)
    failed = np.stack(
        [
            ~always,
            ~always,
            against,
            weak_base & settings.require_base,
            spread > settings.max_spread_ticks,
            confluence_score < settings.confluence_gate,
            sureness < settings.confidence_gate,
        ],
        axis=1,
    )
    judged = np.stack([always, always, always, always & settings.require_base, ~np.isnan(spread), always, always], axis=1)
    return Verdicts(judged & ~failed, failed)


def _minutes(clock: dt.time) -> float:
    """Minutes of a New York wall-clock time after the regular open."""
    return clock.hour * 60 + clock.minute - REGULAR_OPEN_MINUTES
