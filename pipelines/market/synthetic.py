"""A seeded market with a known edge (DOMAIN C.9).

One exogenous driver x per trading day, standard normal and clipped, is drawn before the day
begins. The option flow of the day publishes it: the put/call ratio and the calls' share of the
volume are monotone in x and neutral at x = 0. The price of every bar of the day moves by

    noise + edge * x * bar standard deviation,

so that the sign and the size of the option flow tell the drift, and for a trade with a stop at -a
and a target at +b (in bar standard deviations) the chance of the target is a known function of
edge * x * side: `win_probability`. No other column knows x before prices do.

With edge = 0 the price is a driftless martingale whatever x is: no rule and no feature changes the
expectation of a trade before costs. The driver then only scales volatility and volume, equally to
both sides. (The share of trades that end in profit may still vary a little with the time of day: a
trade that the clock ends early wins more often and wins less. That is in the exits, not in the
prices.)

Bars cover the Globex day (18:00 to 17:00 New York; to 13:15 on half days; none on holidays), are
quieter at night and U-shaped in regular hours. A bar opens at the close before it or, independently
of all else and equally often to both sides, a tick or two beside it, as the first trade of a real
bar does (without it no Sierra pattern would ever occur); the closes do not know of it. The extremes
are drawn from the Brownian bridge between the closes. The VIX is an AR(1) of its logarithm,
published at 16:15 New York, and the next day's volatility follows it mildly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.errors import InputError
from pipelines.market.calendar import NEW_YORK, Sessions, sessions_between
from pipelines.market.first_passage import true_auc, win_probability
from pipelines.market.inputs import OPTION_COLUMNS, MarketInputs, no_quarantine
from pipelines.settings import Instrument, Settings, Synthetic

__all__ = ["driver", "regimes", "synthesise", "true_auc", "win_probability"]

Floats = NDArray[np.float64]

# The fixed shape of the synthetic day. It makes the market look like one; nothing is tuned by it.
DRIVER_CLIP = 2.5
"""Largest |x|."""
TREND_FROM = 0.5
"""|x| from which the day's regime is a trend."""
_NIGHT_SD, _PRE_MARKET_SD = 0.35, 0.5  # of a regular bar's standard deviation
_REGULAR_VOLUME, _NIGHT_VOLUME, _PRE_MARKET_VOLUME = 12_000.0, 700.0, 2_000.0  # contracts per 5 minutes
_TREND_SD, _RANGE_SD = 1.1, 0.9  # volatility of the regimes
_VIX_SHOCK = 0.06  # standard deviation of the daily innovation of log VIX
_VIX_FLOOR = 9.0  # VIX points
_VIX_TO_SD = 0.5  # exponent with which volatility follows the VIX
_NQ_PER_ES, _NQ_SD = 3.4, 1.3  # price level and relative volatility of NQ against ES
_FLOW_NOISE, _FLOW_PER_SD = 0.08, 0.10  # share of buying volume: noise, and per bar standard deviation
_SPREAD_AT = (2.0, 2.8)  # |move| in bar standard deviations from which the spread is 2, 3 ticks
_OPEN_TICKS, _OPEN_SHARES = (-2, -1, 0, 1, 2), (0.01, 0.22, 0.54, 0.22, 0.01)  # open beside the close before, in ticks
_OPTION_VOLUME, _OPTION_INTEREST = 2_000_000.0, 4_000_000.0  # contracts
_FLOW_BEND, _FLOW_SLOPE, _CALL_SHARE_SLOPE = 0.5, 0.1, 0.08
_STREAMS = {"driver": 1, "vix": 2, "prices": 3, "extremes": 4, "flow": 5, "nq": 6, "options": 7}


@dataclass(frozen=True)
class _Grid:
    """The bars of all days in one row: their start, day and place in the day."""

    start: NDArray[np.int64]  # Unix seconds
    day: NDArray[np.int64]
    minute: NDArray[np.int64]  # minutes from the regular open to the bar's start


def synthesise(settings: Settings, seed: int) -> MarketInputs:
    """Make a market.

    Parameters
    ----------
    settings
        The sections synthetic and instrument are read.
    seed
        Same seed and settings, same bytes.

    Raises
    ------
    InputError
        The walk left the instrument's price band.
    """
    synthetic = settings.synthetic
    sessions = _sessions(synthetic)
    x = _draw_driver(synthetic, seed)
    vix = _vix(synthetic, sessions, seed)
    grid = _grid(sessions, synthetic.bar_minutes)

    known_vix = vix["close"].to_numpy()[:-1]
    regime_sd = np.where(np.abs(x) > TREND_FROM, _TREND_SD, _RANGE_SD)
    day_sd = (known_vix / synthetic.vix_mean) ** _VIX_TO_SD * regime_sd
    sd = day_sd[grid.day] * _sd_shape(grid.minute) * (synthetic.bar_sd_points / synthetic.start_price)
    noise = _rng(seed, "prices").standard_normal(len(sd)) + synthetic.edge * x[grid.day]
    bars = _bars(grid, noise, sd, synthetic.start_price, settings.instrument.tick_size, _rng(seed, "extremes"))
    _check_band(bars, settings.instrument)
    volume = _volume(grid, noise, day_sd, synthetic.bar_minutes, _rng(seed, "flow"))
    bars = bars.assign(**volume, spread_ticks=1.0 + np.searchsorted(_SPREAD_AT, np.abs(noise), side="right"))
    return MarketInputs(
        bars=bars,
        nq=_nq(grid, noise, sd, bars["volume"].to_numpy(), settings, _rng(seed, "nq")),
        vix=vix,
        options=_option_levels(grid, bars, x, synthetic, _rng(seed, "options")),
        bar_minutes=synthetic.bar_minutes,
        source="simulated",
        notes=(f"synthetic market: seed {seed}, {synthetic.sessions} trading days, edge {synthetic.edge:g}",),
        quarantined=no_quarantine(),
    )


def driver(settings: Settings, seed: int) -> pd.Series:
    """The driver x of each trading day; index: the day (as in the market table's `session`)."""
    days = pd.DatetimeIndex(_sessions(settings.synthetic).day, name="session")
    return pd.Series(_draw_driver(settings.synthetic, seed), index=days, name="x")


def regimes(x: Floats) -> NDArray[np.str_]:
    """The regime of each day: trend_up, trend_down or range."""
    return np.where(x > TREND_FROM, "trend_up", np.where(x < -TREND_FROM, "trend_down", "range"))


def put_call_ratio(x: Floats) -> Floats:
    """Put/call ratio of open interest that publishes x; 1 at x = 0, decreasing.

    It bends where DOMAIN B.8 does (0.75 and 1.25, at |x| = 0.5) and is steeper above 1.25, so
    that B.8 maps x and -x to values equally far from neutral.
    """
    size = np.abs(x)
    inner = np.minimum(size, _FLOW_BEND) * (0.25 / _FLOW_BEND)
    outer = np.maximum(size - _FLOW_BEND, 0.0) * _FLOW_SLOPE
    return np.where(x >= 0.0, 1.0 - inner - outer, 1.0 + inner + 1.5 * outer)


def call_share(x: Floats) -> Floats:
    """Calls' share of the option volume that publishes x; 0.5 at x = 0, increasing."""
    return 0.5 + _CALL_SHARE_SLOPE * x


def _rng(seed: int, stream: str) -> np.random.Generator:
    return np.random.default_rng([seed, _STREAMS[stream]])


def _draw_driver(synthetic: Synthetic, seed: int) -> Floats:
    draws = _rng(seed, "driver").standard_normal(synthetic.sessions)
    return np.clip(draws, -DRIVER_CLIP, DRIVER_CLIP)


def _sessions(synthetic: Synthetic) -> Sessions:
    first = synthetic.start.year
    table = sessions_between(first, first + synthetic.sessions // 240 + 1)
    begin = int(np.searchsorted(table.day, np.datetime64(synthetic.start, "ns")))
    part = slice(begin, begin + synthetic.sessions)
    return Sessions(table.day[part], table.opens[part], table.closes[part], table.ends[part], table.half[part])


def _grid(sessions: Sessions, bar_minutes: int) -> _Grid:
    """All bar starts of the Globex days; a half day ends 15 minutes after its early close."""
    slots = 23 * 60 // bar_minutes
    begin = sessions.ends - 23 * 3600
    start = begin[:, None] + 60 * bar_minutes * np.arange(slots)
    last = np.where(sessions.half, sessions.closes + 15 * 60, sessions.ends)
    day, slot = np.nonzero(start + 60 * bar_minutes <= last[:, None])
    flat = start[day, slot]
    return _Grid(flat, day, (flat - sessions.opens[day]) // 60)


def _sd_shape(minute: NDArray[np.int64]) -> Floats:
    u = (minute - 195.0) / 195.0
    shape = 0.8 + 0.6 * u**2  # mean 1 over regular hours
    return np.where(_is_regular(minute), shape, np.where(_is_pre_market(minute), _PRE_MARKET_SD, _NIGHT_SD))


def _is_regular(minute: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (minute >= 0) & (minute < 390)


def _is_pre_market(minute: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (minute >= -330) & (minute < 0)


def _vix(synthetic: Synthetic, sessions: Sessions, seed: int) -> pd.DataFrame:
    """One row more than there are days: the first is known before the first day begins."""
    shocks = _rng(seed, "vix").standard_normal(synthetic.sessions + 1) * _VIX_SHOCK
    log_vix = np.empty(len(shocks))
    level = 0.0
    for k, shock in enumerate(shocks):
        level = synthetic.vix_phi * level + shock
        log_vix[k] = level
    days = pd.DatetimeIndex(sessions.day)
    days = days.insert(0, days[0] - pd.offsets.BDay(1)).as_unit("ns")
    known_at = (days + pd.Timedelta(hours=16, minutes=15)).tz_localize(NEW_YORK).tz_convert("UTC")
    close = np.round(np.maximum(synthetic.vix_mean * np.exp(log_vix), _VIX_FLOOR), 2)
    return pd.DataFrame({"known_at": known_at, "close": close})


def _bars(grid: _Grid, noise: Floats, sd: Floats, start_price: float, tick: float, rng: np.random.Generator) -> pd.DataFrame:
    path = start_price * np.concatenate([[1.0], np.cumprod(1.0 + noise * sd)])
    before, close = path[:-1], path[1:]
    # Extremes of the Brownian bridge: each is exact on its own, which is what one barrier sees.
    spread = 2.0 * (sd * before) ** 2
    reach = np.sqrt((close - before) ** 2 - spread * np.log1p(-rng.random((2, len(close)))))
    high, low = (before + close + reach[0]) / 2.0, (before + close - reach[1]) / 2.0
    before, close, high, low = (np.rint(price / tick) * tick for price in (before, close, high, low))
    opened = before + tick * rng.choice(_OPEN_TICKS, size=len(close), p=_OPEN_SHARES)
    return pd.DataFrame(
        {
            "ts": pd.DatetimeIndex(pd.to_datetime(grid.start, unit="s", utc=True)).as_unit("ns"),
            "open": opened,
            "high": np.maximum(high, np.maximum(opened, close)),
            "low": np.minimum(low, np.minimum(opened, close)),
            "close": close,
        }
    )


def _check_band(bars: pd.DataFrame, instrument: Instrument) -> None:
    low, high = float(bars["low"].min()), float(bars["high"].max())
    if low < instrument.price_min or high > instrument.price_max:
        raise InputError(
            f"the synthetic prices run from {low:.2f} to {high:.2f}",
            limit=f"{instrument.price_min:g} to {instrument.price_max:g} (instrument.price_min, price_max)",
            remedy="take another seed, fewer synthetic.sessions, or a smaller synthetic.edge or bar_sd_points",
        )


def _volume(grid: _Grid, noise: Floats, day_sd: Floats, bar_minutes: int, rng: np.random.Generator) -> dict[str, Floats]:
    u = (grid.minute - 195.0) / 195.0
    quiet = np.where(_is_pre_market(grid.minute), _PRE_MARKET_VOLUME, _NIGHT_VOLUME)
    shape = np.where(_is_regular(grid.minute), _REGULAR_VOLUME * (0.6 + 1.2 * u**2), quiet)
    busy = 0.7 + 0.4 * np.abs(noise)
    draw = np.exp(0.3 * rng.standard_normal(len(noise)))
    volume = np.maximum(np.rint(shape * day_sd[grid.day] * busy * draw * (bar_minutes / 5.0)), 1.0)
    buying = 0.5 + _FLOW_PER_SD * np.tanh(noise) + _FLOW_NOISE * rng.standard_normal(len(noise))
    ask_volume = np.rint(volume * np.clip(buying, 0.05, 0.95))
    return {"volume": volume, "bid_volume": volume - ask_volume, "ask_volume": ask_volume}


def _nq(grid: _Grid, noise: Floats, sd: Floats, volume: Floats, settings: Settings, rng: np.random.Generator) -> pd.DataFrame:
    rho = settings.synthetic.nq_correlation
    own = rho * noise + np.sqrt(1.0 - rho**2) * rng.standard_normal(len(noise))
    start_price = settings.synthetic.start_price * _NQ_PER_ES
    bars = _bars(grid, own, sd * _NQ_SD, start_price, settings.instrument.tick_size, rng)
    return bars.assign(volume=np.maximum(np.rint(0.35 * volume), 1.0))


def _option_levels(grid: _Grid, bars: pd.DataFrame, x: Floats, synthetic: Synthetic, rng: np.random.Generator) -> pd.DataFrame:
    """One row per bar, known at its start; strikes on the grid around the close before it."""
    step, days = synthetic.option_grid, synthetic.sessions
    spot = bars["open"].to_numpy()
    spot = np.concatenate([spot[:1], bars["close"].to_numpy()[:-1]])
    wide_call, wide_put, below = (rng.integers(0, 2, days) * step for _ in range(3))
    net_gamma, more = rng.normal(0.0, 3.0, days), rng.exponential(2.0, days)
    first_spot = spot[np.searchsorted(grid.day, np.arange(days))]
    flip = np.floor(first_spot / step) * step - below
    ratio, share = put_call_ratio(x), call_share(x)
    per_day = {
        "gamma_flip": flip,
        "net_gamma": net_gamma,
        "total_gamma_exposure": (np.abs(net_gamma) + more) * 1e9,
        "call_volume": np.rint(_OPTION_VOLUME * share),
        "put_volume": np.rint(_OPTION_VOLUME * (1.0 - share)),
        "call_oi": np.rint(_OPTION_INTEREST / (1.0 + ratio)),
        "put_oi": np.rint(_OPTION_INTEREST * ratio / (1.0 + ratio)),
        "put_call_ratio": ratio,
        "put_call_volume_ratio": (1.0 - share) / share,
    }
    columns = {name: values[grid.day] for name, values in per_day.items()} | {
        "asof": bars["ts"],
        "spot": spot,
        "call_wall": (np.floor(spot / step) + 1.0) * step + wide_call[grid.day],
        "put_wall": (np.ceil(spot / step) - 1.0) * step - wide_put[grid.day],
    }
    return pd.DataFrame({name: columns[name] for name in OPTION_COLUMNS})
