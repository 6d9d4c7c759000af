"""Datasets of a trade-level world whose win probability is known: no market needed, thousands of trades in milliseconds.

About fourteen trades a weekday, one to ten five-minute bars long, so that label intervals overlap;
features share a component within the day; a win pays two R and a loss costs one. The windows are
noise: they say nothing about the trade.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import optimize, stats
from scipy.special import expit

from pipelines.contracts.base import WINDOW_BARS
from pipelines.contracts.tables import check_schema
from pipelines.dataset import DATASET_SCHEMA, Dataset, content_hash
from pipelines.features.twelve import FEATURES
from pipelines.features.window import CHANNELS
from pipelines.targets import TARGETS

RISK = 300.0
COMMISSION = 2.5
TRADES_A_DAY = 14
WIN_SHARE = 0.36


def make_dataset(count: int, seed: int, *, auc: float = 0.5, missing: float = 0.03, source: str = "simulated") -> Dataset:
    """`count` trades whose label a perfect model could rank with the given ROC-AUC."""
    rng = np.random.default_rng(seed)
    day = np.arange(count) // TRADES_A_DAY
    latent = np.sqrt(0.7) * rng.normal(size=(count, 12)) + np.sqrt(0.3) * rng.normal(size=(day[-1] + 1, 12))[day]
    driver = latent[:, 0] * 0.6 + latent[:, 3] * 0.6 - latent[:, 6] * np.sqrt(0.28)
    slope = _slope(auc)
    win = rng.random(count) < expit(_intercept(slope) + slope * driver)
    features = 2.0 * stats.norm.cdf(latent) - 1.0
    features[rng.random(features.shape) < missing] = np.nan
    return of_realized_r(features, np.where(win, 2.0, -1.0) - COMMISSION / RISK, rng, source=source, window_seed=seed)


def make_clock_dataset(count: int, seed: int) -> Dataset:
    """No edge at all: every trade is worth 0 R on average, but the clock tells how it is likely to end.

    With little time left the session closes the trade near its entry, with even odds; otherwise it
    wins two R in one case of three.
    """
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (count, 12))
    time_left = (1.0 - features[:, FEATURES.index("session_time")]) / 2.0
    barrier = np.where(rng.random(count) < 1 / 3, 2.0, -1.0)
    realized_r = np.where(rng.random(count) < time_left, barrier, rng.normal(0.0, 0.3, count))
    return of_realized_r(features, realized_r, rng, window_seed=seed)


def of_realized_r(
    features: np.ndarray, realized_r: np.ndarray, rng: np.random.Generator, *, source: str = "simulated", window_seed: int = 0
) -> Dataset:
    """A dataset of these features and results, in time order; the windows come from a generator of their own."""
    count = len(realized_r)
    win = (realized_r > 0).astype(float)
    start = decision_times(count)
    bars = rng.integers(1, 11, count)
    targets = pd.DataFrame(
        {
            "signal_quality": win,
            "profitability": win,
            "strong_signal": (realized_r >= 1.0).astype(float),
            "net_pnl": realized_r * RISK,
            "realized_r": realized_r,
            "signal_strength": np.clip((realized_r + 1.0) / 3.0, 0.0, 1.0),
            "exit_timing": bars.astype(float),
        },
        columns=list(TARGETS),
    )
    frame = pd.DataFrame(
        {
            "trade_id": pd.array([f"T{number:07d}" for number in range(count)], dtype="str"),
            "decision_time": pd.Series(start).dt.tz_localize("UTC").astype("datetime64[us, UTC]"),
            "exit_time": pd.Series(start + pd.to_timedelta(5 * bars, unit="min")).dt.tz_localize("UTC").astype("datetime64[us, UTC]"),
            "symbol": pd.array(["ES"] * count, dtype="str"),
            "data_source": pd.array([source] * count, dtype="str"),
            "side": rng.choice([-1.0, 1.0], count),
            "confidence": rng.random(count),
        }
    )
    frame = pd.concat([frame, pd.DataFrame(features, columns=[f"feature.{n}" for n in FEATURES]), targets.add_prefix("target.")], axis=1)
    check_schema(DATASET_SCHEMA, frame)
    windows = noise_windows(count, window_seed)
    return Dataset(frame, {"content_hash": content_hash(frame, windows), "sources": {source: count}, "rows": count}, windows)


def noise_windows(count: int, seed: int) -> np.ndarray:
    """Standard normal windows, shape (count, 32, C), float32."""
    return np.random.default_rng([seed, WINDOW_BARS]).standard_normal((count, WINDOW_BARS, len(CHANNELS)), dtype=np.float32)


def decision_times(count: int) -> pd.DatetimeIndex:
    """Fourteen decisions a weekday, 25 minutes apart, from 14:40 UTC on."""
    days = pd.bdate_range("2024-01-02", periods=-(-count // TRADES_A_DAY))
    minutes = pd.to_timedelta(14 * 60 + 40 + 25 * np.arange(TRADES_A_DAY), unit="min")
    return pd.DatetimeIndex((days.to_numpy()[:, None] + minutes.to_numpy()[None, :]).ravel()[:count])


_GRID = stats.norm.ppf((np.arange(4001) + 0.5) / 4001)


def _intercept(slope: float) -> float:
    return float(optimize.brentq(lambda a: expit(a + slope * _GRID).mean() - WIN_SHARE, -20, 20))


def _true_auc(slope: float) -> float:
    chance = expit(_intercept(slope) + slope * _GRID)
    below = np.concatenate([[0.0], np.cumsum(1.0 - chance)])
    return float((chance * (below[:-1] + 0.5 * (1.0 - chance))).sum() / (chance.sum() * (1.0 - chance).sum()))


def _slope(auc: float) -> float:
    return 0.0 if auc == 0.5 else float(optimize.brentq(lambda b: _true_auc(b) - auc, 0.0, 10.0))
