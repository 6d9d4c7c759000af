"""The rows of a Parquet file of signals or outcomes, held against the same contract as a JSONL line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pyarrow.types as kinds
from pydantic import ValidationError
from pydantic_core import from_json

from pipelines.contracts.columns import Column, Kind
from pipelines.contracts.outcome import Outcome
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import BAR_FIELDS, CLUSTERS, OUTCOME_COLUMNS, SIGNAL_COLUMNS
from pipelines.errors import InputError
from pipelines.snapshots.quarantine import Refused
from pipelines.snapshots.records import describe

_BAR_COLUMNS = tuple(f"bars.{name}" for name in BAR_FIELDS)
_TELLING: dict[type[Signal] | type[Outcome], frozenset[str]] = {
    Signal: frozenset(("trade_id", "decision_time", "bars.close")),
    Outcome: frozenset(("trade_id", "exit_time", "exit_price")),
}
"""Columns by which a file is recognised."""

_UNREADABLE = (arrow.ArrowException, ValueError, OverflowError, LookupError)
"""What pyarrow raises for a value that Python cannot hold: no UTF-8, a year beyond 9999, an unknown time zone."""


class NoSnapshotsError(InputError):
    """A Parquet file is sound but holds something else (bars, say)."""


def read_rows(path: Path, max_reason_chars: int) -> Iterator[Signal | Outcome | Refused]:
    """Yield the rows of a file that `SignalTable.write` or `OutcomeTable.write` wrote.

    Raises
    ------
    NoSnapshotsError
        Its columns are neither those of signals nor those of outcomes.
    InputError
        A column is unknown or of another type, or the file is unreadable, or becomes so on the way (rows
        before that were yielded).
    """
    try:
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
        names = schema.names
    except (*_UNREADABLE, OSError) as error:
        raise _unreadable(path, error) from error
    with file:
        model, columns = _recognise(names)
        _check_types(schema, columns)
        number = 0
        batches = file.iter_batches(batch_size=500)
        while True:
            try:
                batch = next(batches, None)
            except (*_UNREADABLE, OSError) as error:
                raise _unreadable(path, error) from error
            if batch is None:
                return
            for row, fault in _plain_rows(batch):
                number += 1
                if fault is None:
                    yield _record(row, model, columns, str(path), number, max_reason_chars)
                else:
                    yield _refused(row, f"not readable: {fault}", str(path), number, max_reason_chars)


def _recognise(names: list[str]) -> tuple[type[Signal] | type[Outcome], dict[str, Column | None]]:
    found = set(names)
    for model, telling in _TELLING.items():
        if telling <= found:
            columns: dict[str, Column | None]
            if model is Signal:
                columns = {column.path: column for column in SIGNAL_COLUMNS} | dict.fromkeys((*_BAR_COLUMNS, CLUSTERS))
            else:
                columns = {column.path: column for column in OUTCOME_COLUMNS}
            if len(found) < len(names):
                raise InputError("two columns of one name", remedy="write the file again")
            unknown = sorted(found - set(columns))
            if unknown:
                raise InputError(
                    f"unknown column(s) {', '.join(map(repr, unknown[:5]))}",
                    limit=f"columns of {model.__name__}",
                    remedy="drop them, or upgrade Amiral if a newer one wrote the file",
                )
            return model, columns
    raise NoSnapshotsError(f"no snapshots: columns {', '.join(names[:6])}", limit="a table of signals or of outcomes")


def _check_types(schema: arrow.Schema, columns: dict[str, Column | None]) -> None:
    for field in schema:
        column = columns[field.name]
        fits, wanted = _BAR_TYPE if column is None else _TYPES[column.kind]
        # A column of missing values only has no type of its own.
        if not (fits(field.type) or kinds.is_null(field.type)):
            raise InputError(f"column {field.name!r} is of type {field.type}", limit=wanted, remedy="write the file as Amiral would")


def _is_number(found: arrow.DataType) -> bool:
    return bool(kinds.is_integer(found) or kinds.is_floating(found))


def _is_text(found: arrow.DataType) -> bool:
    plain = found.value_type if kinds.is_dictionary(found) else found
    return bool(kinds.is_string(plain) or kinds.is_large_string(plain) or kinds.is_string_view(plain))


def _is_numbers(found: arrow.DataType) -> bool:
    listed = kinds.is_list(found) or kinds.is_large_list(found) or kinds.is_fixed_size_list(found)
    return bool(listed and _is_number(found.value_type))


_BAR_TYPE: tuple[Callable[[arrow.DataType], bool], str] = (_is_numbers, "a list of numbers")
_TYPES: dict[Kind, tuple[Callable[[arrow.DataType], bool], str]] = {
    "float": (_is_number, "numbers"),
    "int": (_is_number, "numbers"),
    "bool": (kinds.is_boolean, "booleans"),
    "text": (_is_text, "text"),
    "time": (kinds.is_timestamp, "timestamps"),
    "json": (_is_text, "JSON text"),
}
"""Arrow types that can hold each kind of column, and what to call them."""


def _plain_rows(batch: arrow.RecordBatch) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yield each row as a dict, and what of it cannot be read (then that is left out)."""
    try:
        rows = batch.to_pylist()
    except _UNREADABLE:
        yield from (_plain_row(batch, index) for index in range(batch.num_rows))
    else:
        yield from ((row, None) for row in rows)


def _plain_row(batch: arrow.RecordBatch, index: int) -> tuple[dict[str, Any], str | None]:
    row, fault = {}, None
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = values[index].as_py()
        except _UNREADABLE as error:
            fault = f"{name}: {error}"
    return row, fault


def _record(
    row: dict[str, Any], model: type[Signal] | type[Outcome], columns: dict[str, Column | None], file: str, number: int, max_chars: int
) -> Signal | Outcome | Refused:
    try:
        return model.model_validate(_nested(row, columns))
    except ValidationError as error:
        reason = describe(error, max_chars)
    except (ValueError, TypeError) as error:
        reason = f"not readable: {error}"
    return _refused(row, reason, file, number, max_chars)


def _refused(row: dict[str, Any], reason: str, file: str, number: int, max_chars: int) -> Refused:
    return Refused(file, number, reason[:max_chars], json.dumps(row, default=str))


def _nested(row: dict[str, Any], columns: dict[str, Column | None]) -> dict[str, Any]:
    """Undo the flattening of one row; a missing value is left out, so that its default holds."""
    record: dict[str, Any] = {}
    for path, value in row.items():
        column = columns[path]
        if column is None:
            value = [item for item in value or () if path != CLUSTERS or not _missing(item)]
        elif _missing(value):
            continue
        elif column.kind == "json":
            value = from_json(value)
        *parents, leaf = path.split(".")
        node = record
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return record


def _missing(value: object) -> bool:
    """Tell None and NaN, the only value that differs from itself."""
    return value is None or value != value


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{path.name} is not readable Parquet: {reason[:200]}", remedy="write the file again; it may be cut off")
