"""Reading a table from Parquet or CSV, and its column of times, with errors that a person can act on."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as arrow
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from pipelines.errors import InputError
from pipelines.market.inputs import QUARANTINE_COLUMNS, no_quarantine

_UNREADABLE_REMEDY = "copy or export the file again; it may have been cut off or still be in writing"
_NANOSECOND_YEARS = (1678, 2261)
"""Years that 64-bit nanoseconds hold whole."""
_UTC_REMEDY = 'write the times in UTC, like "2025-01-02T14:30:00Z"'


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """Read the named columns of a Parquet or CSV file; CSV cells stay text.

    Raises
    ------
    InputError
        The file is missing, not a file, neither Parquet nor CSV, unreadable, or lacks columns.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist", remedy="name another file or folder")
    if path.is_dir():
        raise InputError(f"{path} is a folder", limit="a Parquet or CSV file", remedy="name the file in it")
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path} is of kind {path.suffix!r}", limit=".parquet or .csv")
    frame = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    missing = [name for name in required if name not in frame]
    if missing:
        raise InputError(
            f"{path} lacks {', '.join(missing)} (it has {', '.join(map(str, frame.columns)) or 'no columns'})",
            limit=f"the columns {', '.join(required)}",
            remedy="rename or add the columns",
        )
    return frame[[name for name in (*required, *optional) if name in frame]]


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        # Without pandas' own metadata: a saved index comes back as columns, and rows are numbered as they lie in the file.
        return parquet.read_table(path).to_pandas(ignore_metadata=True)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {_first_line(error)}", limit="a whole Parquet file", remedy=_UNREADABLE_REMEDY) from None


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype="str", encoding="utf-8", on_bad_lines="error")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError, csv.Error, ValueError) as error:
        raise InputError(f"{path} cannot be read: {_first_line(error)}", limit="a whole CSV file", remedy=_UNREADABLE_REMEDY) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def read_times(path: Path, column: pd.Series) -> pd.Series:
    """Turn a column into UTC times; what is no time, or lies outside 1678 to 2261 (64-bit nanoseconds), becomes NaT.

    Raises
    ------
    InputError
        Times without a zone, times of several UTC offsets, or numbers (whose unit and zone nothing tells).
    """
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return _nanoseconds(column.dt.tz_convert("UTC"))
    if pd.api.types.is_datetime64_dtype(column.dtype):
        raise InputError(f"{path}: {column.name} has times without a zone (first: {column.iloc[0]})", limit="UTC times", remedy=_UTC_REMEDY)
    if pd.api.types.is_numeric_dtype(column.dtype):
        raise InputError(f"{path}: {column.name} holds numbers (first: {column.iloc[0]})", limit="UTC times", remedy=_UTC_REMEDY)
    text = column.astype("str").str.strip()
    times = pd.to_datetime(text, utc=True, format="ISO8601", errors="coerce")
    offset = text.str.extract(r"\d(Z|[+-]\d{2}:?\d{2}|[+-]\d{2})$", expand=False)
    # A date alone ("2025-01-02") ends like an offset: an offset stands behind a time of day.
    offset = offset.where(text.str.contains(":", na=False))
    _check_offsets(path, text[times.notna()], offset[times.notna()])
    return _nanoseconds(times)


def _check_offsets(path: Path, text: pd.Series, offset: pd.Series) -> None:
    naive = np.flatnonzero(offset.isna().to_numpy())
    if len(naive):
        raise InputError(
            f"{path}: {len(naive)} time(s) without a zone in {text.name} (first: {text.iloc[naive[0]]!r}, row {text.index[naive[0]] + 1})",
            limit="UTC times",
            remedy=_UTC_REMEDY,
        )
    plain = (
        offset.replace({"Z": "+0000"}).str.replace(":", "", regex=False).str.pad(5, side="right", fillchar="0").replace({"-0000": "+0000"})
    )
    found = plain.value_counts()
    if len(found) > 1:
        listing = ", ".join(f"{zone} ({count} rows)" for zone, count in found.items())
        raise InputError(f"{path}: {text.name} mixes UTC offsets: {listing}", limit="one UTC offset in a file", remedy=_UTC_REMEDY)


def _nanoseconds(times: pd.Series) -> pd.Series:
    return times.where(times.dt.year.between(*_NANOSECOND_YEARS)).astype("datetime64[ns, UTC]")


def numbers(column: pd.Series) -> NDArray[np.float64]:
    """A column as float64; what is no number becomes NaN."""
    return pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def quarantine(path: Path, frame: pd.DataFrame, reasons: pd.Series) -> pd.DataFrame:
    """Write up refused rows.

    Parameters
    ----------
    path
        The file they came from.
    frame
        The file's rows as read; its index is the 0-based row number.
    reasons
        Text per refused row, indexed like `frame`.

    Returns
    -------
    DataFrame
        Columns `QUARANTINE_COLUMNS`.
    """
    if reasons.empty:
        return no_quarantine()
    refused = frame.loc[reasons.index]
    records: list[dict[str, Any]] = refused.to_dict("records")
    table = pd.DataFrame(
        {
            "file": path.name,
            "row": refused.index.to_numpy(np.int64) + 1,
            "reason": reasons.to_numpy(),
            "values": [json.dumps({key: _plain(value) for key, value in record.items()}, default=str) for record in records],
        }
    )
    return table.astype({"file": "str", "reason": "str", "values": "str"})[list(QUARANTINE_COLUMNS)]


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is None or value is pd.NaT else str(value) if isinstance(value, float) and not np.isfinite(value) else value


def concat_quarantine(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Stack quarantines."""
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else no_quarantine()
