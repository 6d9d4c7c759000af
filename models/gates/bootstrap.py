"""Block bootstrap of a score over trading days, vectorised over all resamples.

Trades of one day share their market, so single trades must not be drawn: whole days are (the
circular block bootstrap; Politis and Romano 1992). A resample is a vector c of day counts,
and both scores are functions of c:

- ROC-AUC: with U[d, e] = number of (positive of day d, negative of day e) pairs in the right
  order (ties half), the AUC of a resample is c'Uc / (c'p c'n). Ties are exact.
- Linear correlation: it follows from per-day sums of 1, x, y, xx, yy and xy, which are linear in c.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.results import Kind

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def bootstrap_scores(kind: Kind, outcome: Floats, predictions: Floats, counts: Floats, day_index: Ints) -> Floats:
    """Score every resample.

    Parameters
    ----------
    kind
        Decides between ROC-AUC and linear correlation.
    outcome, predictions
        Shape (n,).
    counts
        Shape (resamples, days): how often each day was drawn.
    day_index
        Shape (n,): the day of each row, 0 to days - 1.

    Returns
    -------
    ndarray
        Shape (resamples,); NaN where a resample has one class, or no variation.
    """
    if kind == "classification":
        return _aucs(outcome, predictions, counts, day_index)
    return _correlations(outcome, predictions, counts, day_index)


def draw_days(days: int, samples: int, block: int, rng: np.random.Generator) -> Floats:
    """Draw resamples of trading days in circular blocks of consecutive days.

    Returns
    -------
    ndarray
        Shape (samples, days): counts; each row sums to `days`.
    """
    blocks = -(-days // block)
    first = rng.integers(0, days, size=(samples, blocks))
    drawn = ((first[:, :, None] + np.arange(block)) % days).reshape(samples, -1)[:, :days]
    flat = (drawn + days * np.arange(samples)[:, None]).ravel()
    return np.bincount(flat, minlength=samples * days).reshape(samples, days).astype(np.float64)


def _aucs(outcome: Floats, predictions: Floats, counts: Floats, day_index: Ints) -> Floats:
    days = counts.shape[1]
    positive = outcome > 0.5
    pairs = _ordered_pairs(predictions, positive, day_index, days)
    positives = counts @ np.bincount(day_index[positive], minlength=days)
    negatives = counts @ np.bincount(day_index[~positive], minlength=days)
    right = np.einsum("sd,sd->s", counts @ pairs, counts)
    possible = positives * negatives
    return np.divide(right, possible, out=np.full(len(counts), np.nan), where=possible > 0)


def _ordered_pairs(predictions: Floats, positive: NDArray[np.bool_], day_index: Ints, days: int) -> Floats:
    """U[d, e]: pairs of a positive of day d that scores above a negative of day e, ties half."""
    scores, score_days = predictions[positive], day_index[positive]
    order = np.argsort(scores, kind="stable")
    scores, score_days = scores[order], score_days[order]
    negatives, negative_days = predictions[~positive], day_index[~positive]
    grouped = np.argsort(negative_days, kind="stable")
    parts = np.split(negatives[grouped], np.cumsum(np.bincount(negative_days, minlength=days))[:-1])
    pairs = np.zeros((days, days))
    for day, part in enumerate(parts):
        part = np.sort(part)
        beaten = 0.5 * (np.searchsorted(part, scores, side="left") + np.searchsorted(part, scores, side="right"))
        pairs[:, day] = np.bincount(score_days, weights=beaten, minlength=days)
    return pairs


def _correlations(outcome: Floats, predictions: Floats, counts: Floats, day_index: Ints) -> Floats:
    if np.ptp(outcome) == 0.0 or np.ptp(predictions) == 0.0:
        return np.full(len(counts), np.nan)
    # Standardised, so that rounding is of one size whatever the units are.
    x, y = ((values - values.mean()) / values.std() for values in (predictions, outcome))
    terms = (np.ones(len(x)), x, y, x * x, y * y, x * y)
    sums = np.stack([np.bincount(day_index, weights=term, minlength=counts.shape[1]) for term in terms], axis=1)
    n, sx, sy, sxx, syy, sxy = (counts @ sums).T
    spread_x, spread_y = n * sxx - sx**2, n * syy - sy**2
    # Rounding leaves a tiny spread where a resample does not vary.
    varies = np.minimum(spread_x, spread_y) > 1e-9 * n**2
    spread = np.sqrt(np.maximum(spread_x, 0.0) * np.maximum(spread_y, 0.0))
    return np.divide(n * sxy - sx * sy, spread, out=np.full(len(n), np.nan), where=varies)
