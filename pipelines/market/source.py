"""A folder of market files in, `MarketInputs` out; and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as arrow
import pyarrow.parquet as parquet

from pipelines.errors import InputError
from pipelines.market.bars import BAR_MINUTES, bar_minutes, read_bars
from pipelines.market.calendar import find_gaps, trading_days, unix_seconds
from pipelines.market.files import concat_quarantine, numbers, quarantine, read_table, read_times
from pipelines.market.inputs import OPTION_COLUMNS, MarketInputs
from pipelines.market.options import CHAIN_COLUMNS, LEVEL_PRICES, levels_from_chain
from pipelines.settings import Settings
from pipelines.storage import write_atomically, write_text

MIN_COMMON_SHARE = 0.5
"""Share of the bars with a bar of the other index at the same time, below which a note warns."""

_INDEX = {"ES": "es", "MES": "es", "NQ": "nq", "MNQ": "nq"}
_OTHER: dict[str, tuple[str, Literal["ES", "NQ"]]] = {"es": ("nq", "NQ"), "nq": ("es", "ES")}
_CHAIN_NUMBERS = ("strike", "iv", "gamma", "open_interest", "volume", "spot")
_SUFFIXES = (".parquet", ".csv")
_CHAINS, _LEVELS, _VIX, _CARD = "option_chains_*.parquet", "option_chains_levels.parquet", "vix_1d", "market.json"


def read_folder(folder: Path, settings: Settings) -> MarketInputs:
    """Read a folder of market files.

    Parameters
    ----------
    folder
        Holds `es_5m` or `es_1m` (`nq_...` when the instrument is NQ or MNQ) as .parquet or .csv, and
        optionally the other index in bars of the same length, `vix_1d` and `option_chains_*.parquet`
        (or what `write_inputs` wrote).
    settings
        The sections instrument, market and options are read.

    Returns
    -------
    MarketInputs
        What the folder lacks is None, with a note.

    Raises
    ------
    InputError
        There is no such folder, it has no bars of the instrument, or a file in it cannot be used.
    """
    index = _INDEX[settings.instrument.symbol]
    path = _bars_file(folder, index)
    bars, refused, notes = read_bars(path, settings.instrument, settings.market.max_median_ratio)
    minutes = bar_minutes(path, bars["ts"])
    parts, messages = [refused], [*notes, *_gap_notes(path, bars, minutes, settings.market.max_gap_bars)]
    other = _read_other(folder, index, minutes, bars, settings, parts, messages)
    return MarketInputs(
        bars=bars,
        nq=other,
        vix=_read_vix(folder, parts, messages),
        options=_read_options(folder, settings, parts, messages),
        bar_minutes=minutes,
        source=_source(folder),
        notes=tuple(messages),
        quarantined=concat_quarantine(parts),
    )


def write_inputs(inputs: MarketInputs, folder: Path, symbol: str = "ES") -> None:
    """Write inputs so that `read_folder` gives them back; same inputs, same bytes.

    Parameters
    ----------
    inputs
        Notes and quarantine are not written.
    folder
        Made when missing; a part that is None takes its file away.
    symbol
        What `inputs.bars` are bars of.
    """
    index = _INDEX[symbol]
    tables = {
        f"{index}_{inputs.bar_minutes}m.parquet": inputs.bars,
        f"{_OTHER[index][0]}_{inputs.bar_minutes}m.parquet": inputs.nq,
        f"{_VIX}.parquet": inputs.vix,
        _LEVELS: inputs.options,
    }
    for name, table in tables.items():
        if table is None:
            (folder / name).unlink(missing_ok=True)
        else:
            _write_table(folder / name, arrow.Table.from_pandas(table, preserve_index=False))
    write_text(folder / _CARD, json.dumps({"source": inputs.source}) + "\n")


def _write_table(path: Path, table: arrow.Table) -> None:
    write_atomically(path, lambda temporary: parquet.write_table(table, temporary, compression="zstd"))


def _bars_file(folder: Path, index: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", limit=f"a folder with {index}_5m.parquet", remedy="name another with --bars")
    found = [path for minutes in sorted(BAR_MINUTES, reverse=True) if (path := _file(folder, f"{index}_{minutes}m"))]
    if not found:
        here = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise InputError(
            f"{folder} has no {index.upper()} bars (it has {here})",
            limit=f"{index}_5m or {index}_1m, as .parquet or .csv",
            remedy="put the bars there or name another folder with --bars",
        )
    return found[0]


def _file(folder: Path, stem: str) -> Path | None:
    found = [folder / f"{stem}{suffix}" for suffix in _SUFFIXES if (folder / f"{stem}{suffix}").exists()]
    if len(found) > 1:
        raise InputError(f"{folder} has {found[0].name} and {found[1].name}", limit="one of them", remedy="take the other away")
    return found[0] if found else None


def _gap_notes(path: Path, bars: pd.DataFrame, minutes: int, max_gap_bars: int) -> tuple[str, ...]:
    start = unix_seconds(bars["ts"])
    gaps = find_gaps(start, trading_days(start, minutes), minutes, max_gap_bars)
    if gaps.empty:
        return ()
    worst = gaps.loc[gaps["missing"].idxmax()]
    return (
        f"{path.name}: {len(gaps)} gap(s) of more than {max_gap_bars} bars in regular hours, "
        f"the longest of {worst['missing']} bars after {worst['after']:%Y-%m-%d %H:%M} UTC",
    )


def _read_other(
    folder: Path, index: str, minutes: int, bars: pd.DataFrame, settings: Settings, parts: list[pd.DataFrame], notes: list[str]
) -> pd.DataFrame | None:
    prefix, symbol = _OTHER[index]
    path = _file(folder, f"{prefix}_{minutes}m")
    if path is None:
        notes.append(f"no {prefix}_{minutes}m file: es_nq_correlation is missing")
        return None
    instrument = settings.instrument.model_copy(update={"symbol": symbol})
    other, refused, own_notes = read_bars(path, instrument, settings.market.max_median_ratio)
    parts.append(refused)
    notes.extend(own_notes)
    other_minutes = bar_minutes(path, other["ts"])
    if other_minutes != minutes:
        raise InputError(f"{path} has bars of {other_minutes} minutes", limit=f"{minutes} minutes, as the {index.upper()} bars")
    common = float(np.isin(unix_seconds(bars["ts"]), unix_seconds(other["ts"])).mean())
    if common < MIN_COMMON_SHARE:
        notes.append(
            f"{path.name}: only {common:.0%} of the {index.upper()} bars have a bar at the same time: es_nq_correlation is mostly missing"
        )
    return other


def _read_vix(folder: Path, parts: list[pd.DataFrame], notes: list[str]) -> pd.DataFrame | None:
    path = _file(folder, _VIX)
    if path is None:
        notes.append("no VIX file (vix_1d): vix_level is missing")
        return None
    raw = read_table(path, ("known_at", "close"))
    vix = pd.DataFrame({"known_at": read_times(path, raw["known_at"]), "close": numbers(raw["close"])}, index=raw.index)
    good = vix["known_at"].notna() & np.isfinite(vix["close"]) & (vix["close"] > 0.0)
    reasons = pd.Series("known_at is not a time or close is not positive", index=raw.index[~good])
    _put_aside(path, raw, reasons, parts, notes)
    # Of two values known at one moment the later row is the correction.
    return vix[good].sort_values("known_at", kind="stable").drop_duplicates("known_at", keep="last").reset_index(drop=True)


def _read_options(folder: Path, settings: Settings, parts: list[pd.DataFrame], notes: list[str]) -> pd.DataFrame | None:
    levels = folder / _LEVELS
    chains = sorted(path for path in folder.glob(_CHAINS) if path != levels)
    tables = [levels_from_chain(_read_chain(path, parts, notes), settings.options) for path in chains]
    if levels.exists():
        tables.append(_read_levels(levels, parts, notes))
    filled = [table for table in tables if len(table)]
    if not filled:
        notes.append("no option chains (option_chains_*.parquet): option levels are missing")
        return None
    everything = pd.concat(filled, ignore_index=True).sort_values("asof", kind="stable")
    return everything.drop_duplicates("asof", keep="last").reset_index(drop=True)


def _read_chain(path: Path, parts: list[pd.DataFrame], notes: list[str]) -> pd.DataFrame:
    raw = read_table(path, CHAIN_COLUMNS, ("header_time_ok",))
    chain = pd.DataFrame({"ts": read_times(path, raw["ts"])}, index=raw.index)
    # The date as it is written: in whatever zone it stands, the option expires at the close of that New York day.
    chain["expiry"] = pd.to_datetime(raw["expiry"].astype("str").str.strip().str[:10], format="ISO8601", errors="coerce")
    chain["type"] = raw["type"].astype("str").str.upper().str[:1]
    for name in _CHAIN_NUMBERS:
        chain[name] = numbers(raw[name])
    reasons = pd.Series("", index=raw.index, dtype=object)
    infinite = np.isinf(chain[list(_CHAIN_NUMBERS)]).any(axis=1)
    reasons[chain.isna().any(axis=1) | infinite | ~chain["type"].isin(("C", "P"))] = "a cell is missing or unreadable"
    reasons[(chain[["strike", "spot"]] <= 0.0).any(axis=1)] = "strike or spot is zero or negative"
    reasons[(chain[["iv", "gamma", "open_interest", "volume"]] < 0.0).any(axis=1)] = "a negative iv, gamma, open interest or volume"
    if "header_time_ok" in raw:
        # Nothing may be known before its time, and only where a plain true says so the time is certain.
        certain = [isinstance(value, bool | np.bool_) and bool(value) for value in raw["header_time_ok"]]
        reasons[~np.array(certain, dtype=np.bool_)] = "the time of the snapshot is not certain (header_time_ok is not true)"
    bad = reasons[reasons != ""]
    _put_aside(path, raw, bad, parts, notes)
    return chain[(reasons == "").to_numpy()]


def _read_levels(path: Path, parts: list[pd.DataFrame], notes: list[str]) -> pd.DataFrame:
    """Levels that somebody has computed before; a level may be missing, but must not be impossible."""
    raw = read_table(path, OPTION_COLUMNS)
    names = [name for name in OPTION_COLUMNS if name != "asof"]
    values = pd.DataFrame({name: numbers(raw[name]) for name in names}, index=raw.index)
    asof = read_times(path, raw["asof"])
    prices = ["spot", *LEVEL_PRICES]
    sizes = [name for name in names if name not in (*prices, "net_gamma")]
    reasons = pd.Series("", index=raw.index, dtype=object)
    reasons[(values[sizes] < 0.0).any(axis=1)] = "a volume, open interest, ratio or exposure is negative"
    reasons[(values[prices] <= 0.0).any(axis=1)] = "spot or a level is zero or negative"
    unreadable = (values.isna() & raw[names].notna()) | np.isinf(values)
    reasons[asof.isna() | values["spot"].isna() | unreadable.any(axis=1)] = "asof or spot is missing, or a cell is unreadable"
    _put_aside(path, raw, reasons[reasons != ""], parts, notes)
    return values.assign(asof=asof)[list(OPTION_COLUMNS)][(reasons == "").to_numpy()]


def _put_aside(path: Path, raw: pd.DataFrame, reasons: pd.Series, parts: list[pd.DataFrame], notes: list[str]) -> None:
    if len(reasons):
        parts.append(quarantine(path, raw, reasons))
        counts = ", ".join(f"{count} x {reason}" for reason, count in reasons.value_counts().items())
        notes.append(f"{path.name}: {len(reasons)} row(s) quarantined: {counts}")


def _source(folder: Path) -> Literal["replay", "simulated"]:
    """Recorded bars, unless the folder says that they were made: the two are never mixed silently."""
    path = folder / _CARD
    if not path.exists():
        return "replay"
    try:
        source = json.loads(path.read_text(encoding="utf-8"))["source"]
    except (ValueError, KeyError, TypeError):
        source = None
    if source == "simulated":
        return "simulated"
    if source == "replay":
        return "replay"
    raise InputError(f"{path} does not say where the bars come from", limit='{"source": "replay"} or {"source": "simulated"}')
