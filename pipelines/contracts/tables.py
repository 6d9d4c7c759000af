"""Signals and outcomes as tables: what the stages hand to each other.

`SignalTable` holds T0 only and `OutcomeTable` holds T1 to T4 only; they are separate files and
separate types, joined on `trade_id`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from pipelines.contracts.base import EARLIEST, LATEST, MAX_CLUSTERS, WINDOW_BARS, ContractError
from pipelines.contracts.columns import Column, columns_of, conform, flatten, nest
from pipelines.contracts.outcome import Outcome
from pipelines.contracts.signal import BarWindow, Signal
from pipelines.storage import write_atomically

BAR_FIELDS = tuple(BarWindow.model_fields)
"""Order of the last axis of `SignalTable.bars`: start, open, high, low, close, volume."""

CLUSTERS = "market_structure.volume_clusters"
SIGNAL_COLUMNS = columns_of(Signal, leave_out=("bars", CLUSTERS))
OUTCOME_COLUMNS = columns_of(Outcome)


@cache
def schema_of(columns: tuple[Column, ...], name: str) -> pa.DataFrameSchema:
    """The pandera schema that the contract's columns imply; `trade_id` is unique."""
    return pa.DataFrameSchema(
        {column.path: _pandera_column(column) for column in columns},
        strict=True,
        ordered=True,
        unique=["trade_id"],
        name=name,
    )


def _pandera_column(column: Column) -> pa.Column:
    checks = []
    if column.lower is not None:
        checks.append(pa.Check.gt(column.lower) if column.lower_open else pa.Check.ge(column.lower))
    if column.upper is not None:
        checks.append(pa.Check.le(column.upper))
    if column.choices:
        checks.append(pa.Check.isin(column.choices))
    if column.kind == "time":
        checks.append(pa.Check.in_range(EARLIEST, LATEST))
    nullable = column.nullable or column.kind == "json"
    dtype: Any = pd.DatetimeTZDtype("us", "UTC") if column.kind == "time" else column.dtype
    return pa.Column(dtype, checks=checks, nullable=nullable)


def signal_schema() -> pa.DataFrameSchema:
    """Pandera schema of `SignalTable.frame`."""
    return schema_of(SIGNAL_COLUMNS, "signals")


def outcome_schema() -> pa.DataFrameSchema:
    """Pandera schema of `OutcomeTable.frame`."""
    return schema_of(OUTCOME_COLUMNS, "outcomes")


def check_schema(schema: pa.DataFrameSchema, frame: pd.DataFrame) -> None:
    """Hold a table against its schema.

    Raises
    ------
    ContractError
        With the first failing columns, checks and values.
    """
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases.head(5)
        found = "; ".join(f"{row.column}: {row.failure_case!r} fails {row.check}" for row in cases.itertuples())
        raise ContractError(
            f"table {schema.name!r}: {len(error.failure_cases)} value(s) break the contract: {found}",
            remedy="mend the source or ingest it as JSONL, which quarantines bad records one by one",
        ) from None


@dataclass(frozen=True)
class SignalTable:
    """Signals as columns.

    Attributes
    ----------
    frame
        One row per signal, columns `SIGNAL_COLUMNS`.
    bars
        Shape (n, 32, 6), float64; last axis `BAR_FIELDS`; starts in Unix seconds.
    clusters
        Shape (n, 8), float64 index points, NaN where a signal has fewer.
    """

    frame: pd.DataFrame
    bars: NDArray[np.float64]
    clusters: NDArray[np.float64]

    def __post_init__(self) -> None:
        _check_columns(self.frame, SIGNAL_COLUMNS, "signals")
        size = len(self.frame)
        wanted = (size, WINDOW_BARS, len(BAR_FIELDS)), (size, MAX_CLUSTERS)
        if (self.bars.shape, self.clusters.shape) != wanted:
            raise ValueError(f"bars {self.bars.shape} and clusters {self.clusters.shape} must be {wanted[0]} and {wanted[1]}")

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def of(cls, frame: pd.DataFrame, bars: NDArray[np.float64], clusters: NDArray[np.float64]) -> Self:
        """Build from parts; absent columns become missing values."""
        return cls(conform(frame, SIGNAL_COLUMNS), bars, clusters)

    @classmethod
    def empty(cls) -> Self:
        """A table of no signals."""
        return cls.of(pd.DataFrame(), np.empty((0, WINDOW_BARS, len(BAR_FIELDS))), np.empty((0, MAX_CLUSTERS)))

    @classmethod
    def from_records(cls, signals: Sequence[Signal]) -> Self:
        """Flatten validated signals."""
        if not signals:
            return cls.empty()
        bars = np.array(
            [[s.bars.start, s.bars.open, s.bars.high, s.bars.low, s.bars.close, s.bars.volume] for s in signals], dtype=np.float64
        )
        bars += 0.0  # one zero of the two
        clusters = np.full((len(signals), MAX_CLUSTERS), np.nan)
        for row, signal in zip(clusters, signals, strict=True):
            levels = signal.market_structure.volume_clusters
            row[: len(levels)] = levels
        return cls(flatten(signals, SIGNAL_COLUMNS), np.ascontiguousarray(bars.transpose(0, 2, 1)), clusters)

    def to_dicts(self) -> Iterator[dict[str, Any]]:
        """Yield the signals as nested plain dicts, as they stand in JSONL."""
        for index, record in enumerate(nest(self.frame, SIGNAL_COLUMNS)):
            window = self.bars[index].T.tolist()
            bars = dict(zip(BAR_FIELDS, window, strict=True))
            bars["start"] = [int(second) for second in bars["start"]]
            levels = self.clusters[index]
            record.setdefault("market_structure", {})["volume_clusters"] = levels[~np.isnan(levels)].tolist()
            yield record | {"bars": bars}

    def take(self, rows: NDArray[Any]) -> Self:
        """The signals at these positions (or where this mask holds), in that order."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        frame = self.frame.iloc[positions].reset_index(drop=True)
        return type(self)(frame, self.bars[positions], self.clusters[positions])

    @classmethod
    def concat(cls, tables: Sequence[Self]) -> Self:
        """Stack tables."""
        filled = [table for table in tables if len(table)]
        if not filled:
            return cls.empty()
        frame = pd.concat([table.frame for table in filled], ignore_index=True)
        bars = np.concatenate([table.bars for table in filled])
        clusters = np.concatenate([table.clusters for table in filled])
        return cls(conform(frame, SIGNAL_COLUMNS), bars, clusters)

    def validate(self) -> Self:
        """Hold the table against its pandera schema; raises `ContractError`."""
        check_schema(signal_schema(), self.frame)
        if len(self) and not np.isfinite(self.bars).all():
            raise ContractError("table 'signals': a bar window holds NaN or infinity", limit=f"{WINDOW_BARS} finite bars")
        return self

    def write(self, path: Path) -> None:
        """Write Parquet, atomically."""
        arrays = [
            arrow.FixedSizeListArray.from_arrays(arrow.array(self.bars[:, :, k].ravel()), WINDOW_BARS) for k in range(len(BAR_FIELDS))
        ]
        table = arrow.Table.from_pandas(self.frame, preserve_index=False)
        for name, values in zip(BAR_FIELDS, arrays, strict=True):
            table = table.append_column(f"bars.{name}", values)
        table = table.append_column(CLUSTERS, arrow.FixedSizeListArray.from_arrays(arrow.array(self.clusters.ravel()), MAX_CLUSTERS))
        _write_table(path, table)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        table = parquet.read_table(path)
        size = table.num_rows
        arrays = [_fixed(table, f"bars.{name}", size, WINDOW_BARS) for name in BAR_FIELDS]
        clusters = _fixed(table, CLUSTERS, size, MAX_CLUSTERS)
        frame = table.drop_columns([f"bars.{name}" for name in BAR_FIELDS] + [CLUSTERS]).to_pandas()
        return cls(conform(frame, SIGNAL_COLUMNS), np.ascontiguousarray(np.stack(arrays, axis=2)), clusters)


@dataclass(frozen=True)
class OutcomeTable:
    """Outcomes as columns: one row per closed trade, columns `OUTCOME_COLUMNS`."""

    frame: pd.DataFrame

    def __post_init__(self) -> None:
        _check_columns(self.frame, OUTCOME_COLUMNS, "outcomes")

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Self:
        """Build from a frame; absent columns become missing values."""
        return cls(conform(frame, OUTCOME_COLUMNS))

    @classmethod
    def empty(cls) -> Self:
        """A table of no outcomes."""
        return cls.of(pd.DataFrame())

    @classmethod
    def from_records(cls, outcomes: Sequence[Outcome]) -> Self:
        """Flatten validated outcomes."""
        return cls(flatten(outcomes, OUTCOME_COLUMNS)) if outcomes else cls.empty()

    def to_dicts(self) -> Iterator[dict[str, Any]]:
        """Yield the outcomes as nested plain dicts, as they stand in JSONL."""
        yield from nest(self.frame, OUTCOME_COLUMNS)

    def take(self, rows: NDArray[Any]) -> Self:
        """The outcomes at these positions (or where this mask holds), in that order."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        return type(self)(self.frame.iloc[positions].reset_index(drop=True))

    @classmethod
    def concat(cls, tables: Sequence[Self]) -> Self:
        """Stack tables."""
        filled = [table.frame for table in tables if len(table)]
        return cls.of(pd.concat(filled, ignore_index=True)) if filled else cls.empty()

    def validate(self) -> Self:
        """Hold the table against its pandera schema; raises `ContractError`."""
        check_schema(outcome_schema(), self.frame)
        return self

    def write(self, path: Path) -> None:
        """Write Parquet, atomically."""
        _write_table(path, arrow.Table.from_pandas(self.frame, preserve_index=False))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        return cls.of(parquet.read_table(path).to_pandas())


@dataclass(frozen=True)
class Trades:
    """Closed trades: row i of `signals` and row i of `outcomes` are of one trade, sorted by decision time."""

    signals: SignalTable
    outcomes: OutcomeTable

    def __post_init__(self) -> None:
        if len(self.signals) != len(self.outcomes):
            raise ValueError(f"{len(self.signals)} signals and {len(self.outcomes)} outcomes; both must have the same rows")

    def __len__(self) -> int:
        return len(self.signals)

    def take(self, rows: NDArray[Any]) -> Self:
        """The trades at these positions (or where this mask holds)."""
        return type(self)(self.signals.take(rows), self.outcomes.take(rows))

    def content_hash(self) -> str:
        """SHA-256 over every value in column order; the same rows give the same hash on any machine."""
        digest = hashlib.sha256()
        for frame, columns in ((self.signals.frame, SIGNAL_COLUMNS), (self.outcomes.frame, OUTCOME_COLUMNS)):
            for column in columns:
                digest.update(column.path.encode())
                digest.update(_canonical_bytes(frame[column.path], column))
        for array in (self.signals.bars, self.signals.clusters):
            digest.update(canonical_floats(array))
        return digest.hexdigest()


def join(signals: SignalTable, outcomes: OutcomeTable) -> Trades:
    """Pair signals with their outcomes, sorted by (decision time, trade id); open trades and orphans stay out."""
    left = pd.DataFrame({"trade_id": signals.frame["trade_id"], "s": np.arange(len(signals))})
    left["decision_time"] = signals.frame["decision_time"]
    right = pd.DataFrame({"trade_id": outcomes.frame["trade_id"], "o": np.arange(len(outcomes))})
    pairs = left.merge(right, on="trade_id", how="inner", validate="one_to_one")
    pairs = pairs.sort_values(["decision_time", "trade_id"], kind="stable")
    return Trades(signals.take(pairs["s"].to_numpy(np.int64)), outcomes.take(pairs["o"].to_numpy(np.int64)))


def canonical_floats(values: NDArray[np.float64]) -> bytes:
    """Little-endian float64 bytes with one representation of NaN and of zero."""
    clean = np.asarray(values, dtype="<f8") + 0.0
    return np.where(np.isnan(clean), np.nan, clean).tobytes()


def _canonical_bytes(series: pd.Series, column: Column) -> bytes:
    if column.kind in ("float", "int"):
        return canonical_floats(series.to_numpy(np.float64))
    if column.kind == "time":
        return series.astype("int64").to_numpy("<i8").tobytes() if series.notna().all() else _text_bytes(series)
    return _text_bytes(series)


def _text_bytes(series: pd.Series) -> bytes:
    missing = series.isna().to_numpy()
    texts = ["" if gone else f"{value}" for value, gone in zip(series.tolist(), missing, strict=True)]
    return missing.tobytes() + "\x1f".join(texts).encode()


def _check_columns(frame: pd.DataFrame, columns: tuple[Column, ...], name: str) -> None:
    """Refuse a table with a column too many, too few or out of place: the whitelist that keeps T0 apart."""
    wanted = [column.path for column in columns]
    found = list(frame.columns)
    if found != wanted:
        unknown, missing = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
        raise ContractError(
            f"table {name!r}: unknown columns {unknown[:5]}, missing columns {missing[:5]}",
            limit="the columns of the contract in their order",
            remedy="build the table with `of`, which orders and completes it",
        )


def _fixed(table: arrow.Table, name: str, rows: int, width: int) -> NDArray[np.float64]:
    values = table.column(name).combine_chunks()
    if isinstance(values, arrow.ChunkedArray):
        values = arrow.concat_arrays(values.chunks) if values.num_chunks else arrow.array([], type=values.type)
    flat = values.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return flat.reshape(rows, width)


def _write_table(path: Path, table: arrow.Table) -> None:
    # Chunks may shape the pages of the file; without them the same rows give the same bytes.
    whole = table.combine_chunks()
    write_atomically(path, lambda temporary: parquet.write_table(whole, temporary, compression="zstd"))
