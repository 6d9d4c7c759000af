"""Option levels: from a chain (DOMAIN H.4), and as of each bar.

A chain is a table with one row per contract and as-of time: ts (UTC), expiry (date), strike,
type (C or P), iv (fraction), gamma (per point and share), open_interest, volume, spot.

Dollar gamma of a contract is gamma * open interest * multiplier * spot^2 * 0.01: USD of hedging
per 1 % move. Calls count plus, puts minus (the convention that dealers are long calls and short
puts; who holds what is not in the data). A contract that has expired by the as-of time holds no
open interest any more; its volume of the day stays.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.market.calendar import NEW_YORK, unix_seconds
from pipelines.market.inputs import OPTION_COLUMNS
from pipelines.settings import Options

Floats = NDArray[np.float64]

CHAIN_COLUMNS = ("ts", "expiry", "strike", "type", "iv", "gamma", "open_interest", "volume", "spot")

LEVEL_PRICES = ("call_wall", "put_wall", "gamma_flip")
"""Columns of a row of levels in units of the strikes, beside the spot."""

_EXPIRY_TIME = pd.Timedelta(hours=16)
"""New York wall clock at which an option of the underlying stops trading."""
_SECONDS_PER_YEAR = 365.0 * 86_400.0
_ONE_PERCENT = 0.01
_BILLION = 1e9


def levels_from_chain(chain: pd.DataFrame, settings: Options) -> pd.DataFrame:
    """Reduce chains to one row of levels per as-of time.

    Parameters
    ----------
    chain
        Columns `CHAIN_COLUMNS`, valid rows only.
    settings
        Open-interest floor, contract multiplier, rate, spot grid.

    Returns
    -------
    DataFrame
        Columns `OPTION_COLUMNS`, sorted by asof; levels in units of the strikes, NaN where a chain
        has no such level.
    """
    rows = [_levels(asof, snapshot, settings) for asof, snapshot in chain.groupby("ts", sort=True)]
    frame = pd.DataFrame(rows, columns=list(OPTION_COLUMNS))
    frame["asof"] = pd.to_datetime(frame["asof"], utc=True).astype("datetime64[ns, UTC]")
    return frame.astype({name: "float64" for name in OPTION_COLUMNS if name != "asof"})


def _levels(asof: object, snapshot: pd.DataFrame, settings: Options) -> dict[str, object]:
    spot = float(snapshot["spot"].iloc[0])
    is_call = (snapshot["type"] == "C").to_numpy()
    open_interest = np.where(_years_left(snapshot) > 0.0, snapshot["open_interest"].to_numpy(np.float64), 0.0)
    volume = snapshot["volume"].to_numpy(np.float64)
    held = snapshot.assign(held=open_interest).groupby(["strike", "type"])["held"].transform("sum").to_numpy(np.float64)
    liquid = held >= settings.min_open_interest

    weight = np.where(liquid, open_interest, 0.0)
    strike = snapshot["strike"].to_numpy(np.float64)
    gamma = snapshot["gamma"].to_numpy(np.float64) * weight
    exposure = np.where(is_call, 1.0, -1.0) * gamma * (settings.multiplier * spot**2 * _ONE_PERCENT)
    call_oi, put_oi = open_interest[is_call].sum(), open_interest[~is_call].sum()
    call_volume, put_volume = volume[is_call].sum(), volume[~is_call].sum()
    return {
        "asof": asof,
        "spot": spot,
        "call_wall": _wall(strike, gamma, is_call & (strike >= spot)),
        "put_wall": _wall(strike, gamma, ~is_call & (strike <= spot)),
        "gamma_flip": zero_gamma(snapshot, np.where(is_call, weight, -weight), spot, settings),
        "net_gamma": exposure.sum() / _BILLION,
        "total_gamma_exposure": np.abs(exposure).sum(),
        **{"call_volume": call_volume, "put_volume": put_volume, "call_oi": call_oi, "put_oi": put_oi},
        "put_call_ratio": put_oi / call_oi if call_oi > 0 else np.nan,
        "put_call_volume_ratio": put_volume / call_volume if call_volume > 0 else np.nan,
    }


def _wall(strike: Floats, gamma: Floats, use: NDArray[np.bool_]) -> float:
    """Strike with the most gamma over all expiries; NaN where there is none."""
    total = pd.Series(gamma[use]).groupby(strike[use]).sum()
    return float(total.idxmax()) if len(total) and total.max() > 0.0 else np.nan


def zero_gamma(snapshot: pd.DataFrame, signed_interest: Floats, spot: float, settings: Options) -> float:
    """Find the spot at which the re-priced net gamma crosses zero.

    Every option keeps its implied volatility and time to expiry while the spot walks over a grid;
    the crossing nearest to the present spot is interpolated linearly. Gamma is that of Black and
    Scholes (1973), without dividends.

    Returns
    -------
    float
        Units of the strikes; NaN when the net gamma does not change sign on the grid.
    """
    years = _years_left(snapshot)
    iv = snapshot["iv"].to_numpy(np.float64)
    use = (years > 0.0) & (iv > 0.0) & (signed_interest != 0.0)
    strike = snapshot["strike"].to_numpy(np.float64)[use]
    reach = settings.spot_grid_share
    grid = spot * np.linspace(1.0 - reach, 1.0 + reach, settings.spot_grid_points)
    gamma = black_scholes_gamma(grid[:, None], strike, years[use], iv[use], settings.rate)
    net = (gamma * signed_interest[use]).sum(axis=1) * grid**2

    # Far from every strike gamma underflows to exactly 0: only a change of sign is a crossing.
    grid, net = grid[net != 0.0], net[net != 0.0]
    at = np.flatnonzero(np.sign(net[:-1]) != np.sign(net[1:]))
    crossings = grid[at] + (grid[at + 1] - grid[at]) * net[at] / (net[at] - net[at + 1])
    return float(crossings[np.argmin(np.abs(crossings - spot))]) if len(crossings) else np.nan


def _years_left(snapshot: pd.DataFrame) -> Floats:
    """Time to each contract's expiry at the as-of time; zero or negative when it has expired."""
    expiry = (pd.DatetimeIndex(snapshot["expiry"]) + _EXPIRY_TIME).tz_localize(NEW_YORK)
    return (unix_seconds(expiry) - unix_seconds(snapshot["ts"])) / _SECONDS_PER_YEAR


def black_scholes_gamma(spot: Floats, strike: Floats, years: Floats, iv: Floats, rate: float) -> Floats:
    """Second derivative of the option's value by spot (calls and puts alike); arrays broadcast."""
    width = iv * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + 0.5 * iv**2) * years) / width
    return np.exp(-0.5 * d1**2) / (np.sqrt(2.0 * np.pi) * spot * width)


def levels_asof(options: pd.DataFrame | None, end: NDArray[np.int64], close: Floats, offset: Floats) -> dict[str, object]:
    """The latest option levels known at each bar's end, in the prices of the traded contract.

    A strike becomes ES-equivalent by the ratio of the futures' close to the underlying's spot,
    both at the as-of time. Nothing is dropped for age here: `options_asof` tells it.

    Parameters
    ----------
    options
        Columns `OPTION_COLUMNS`, sorted by asof; None gives missing values throughout.
    end
        Shape (n,); bar ends in Unix seconds.
    close, offset
        Shape (n,); close of the bars and the roll gaps so far.

    Returns
    -------
    dict
        The option columns of the market table and options_asof. Levels from before the first bar
        are missing: there is no close to convert them by.
    """
    names = [name for name in OPTION_COLUMNS if name not in ("asof", "spot")]
    if options is None or options.empty:
        nothing = pd.DatetimeIndex(np.full(len(end), np.datetime64("NaT"), dtype="datetime64[ns]")).tz_localize("UTC")
        return {"options_asof": nothing, **{name: np.full(len(end), np.nan) for name in names}}
    asof = unix_seconds(options["asof"])
    row = np.searchsorted(asof, end, side="right") - 1
    known, row = row >= 0, np.maximum(row, 0)
    table = {name: options[name].to_numpy(np.float64) for name in (*names, "spot")}

    bar = np.searchsorted(end, asof, side="right") - 1
    ratio = np.where(bar >= 0, close[np.maximum(bar, 0)] / table["spot"], np.nan)
    at_roll = offset[np.maximum(bar, 0)]
    result: dict[str, object] = {}
    for name in names:
        values = table[name]
        if name in LEVEL_PRICES:
            result[name] = np.where(known, (values * ratio - at_roll)[row] + offset, np.nan)
        else:
            result[name] = np.where(known, values[row], np.nan)
    times = pd.DatetimeIndex(options["asof"]).as_unit("ns")[row]
    result["options_asof"] = times.where(known)
    return result
