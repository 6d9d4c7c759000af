"""What a market is made of, before anything is computed from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

BAR_COLUMNS = ("ts", "open", "high", "low", "close", "volume")
"""What a bar must have: start (UTC), index points, contracts."""

OPTIONAL_BAR_COLUMNS = ("contract", "adj", "roll", "bid_volume", "ask_volume", "spread_ticks")
"""What a bar may have: contract code, back-adjustment (points; close + adj is continuous), first bar
of a new contract, aggressor volumes (contracts), spread (ticks)."""

OPTION_COLUMNS = (
    *("asof", "spot", "call_wall", "put_wall", "gamma_flip", "net_gamma", "total_gamma_exposure"),
    *("call_volume", "put_volume", "call_oi", "put_oi", "put_call_ratio", "put_call_volume_ratio"),
)
"""A row of option levels: time, then price-like values in the units of the underlying's strikes."""

QUARANTINE_COLUMNS = ("file", "row", "reason", "values")
"""A refused row: file name, data row (1-based, the header not counted), why, the whole row as JSON."""


@dataclass(frozen=True)
class MarketInputs:
    """Bars and what goes with them.

    Attributes
    ----------
    bars
        The traded instrument: `BAR_COLUMNS` and any of `OPTIONAL_BAR_COLUMNS`, sorted by `ts`.
    nq
        The other index, same columns; None when there is no file.
    vix
        Columns known_at (UTC) and close (VIX points), sorted; None when there is no file.
    options
        Columns `OPTION_COLUMNS`, one row per as-of time, sorted; None when there is no file.
    bar_minutes
        Length of a bar.
    source
        "replay" for recorded bars, "simulated" for the synthetic market.
    notes
        What a person should know: rows sorted, duplicates dropped, files missing.
    quarantined
        Refused rows, columns `QUARANTINE_COLUMNS`.
    """

    bars: pd.DataFrame
    nq: pd.DataFrame | None
    vix: pd.DataFrame | None
    options: pd.DataFrame | None
    bar_minutes: int
    source: Literal["replay", "simulated"]
    notes: tuple[str, ...]
    quarantined: pd.DataFrame


def no_quarantine() -> pd.DataFrame:
    """An empty quarantine."""
    return pd.DataFrame({name: pd.Series(dtype="int64" if name == "row" else "str") for name in QUARANTINE_COLUMNS})
