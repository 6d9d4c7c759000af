"""The rows of a Parquet file of signals or outcomes, held against the same contract as a JSONL line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
from pydantic import ValidationError

from pipelines.contracts.columns import Column
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


class NoSnapshotsError(InputError):
    """A Parquet file is sound but holds something else (bars, say)."""


def read_rows(path: Path, max_reason_chars: int) -> Iterator[Signal | Outcome | Refused]:
    """Yield the rows of a file that `SignalTable.write` or `OutcomeTable.write` wrote.

    Raises
    ------
    NoSnapshotsError
        Its columns are neither those of signals nor those of outcomes.
    InputError
        The file is unreadable, or becomes so on the way (rows before that were yielded).
    """
    try:
        file = parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    with file:
        model, columns = _recognise(file.schema_arrow.names)
        number = 0
        batches = file.iter_batches(batch_size=500)
        while True:
            try:
                batch = next(batches, None)
            except (arrow.ArrowException, OSError) as error:
                raise _unreadable(path, error) from error
            if batch is None:
                return
            for row in batch.to_pylist():
                number += 1
                yield _record(row, model, columns, str(path.resolve()), number, max_reason_chars)


def _recognise(names: list[str]) -> tuple[type[Signal] | type[Outcome], dict[str, Column | None]]:
    found = set(names)
    for model, telling in _TELLING.items():
        if telling <= found:
            columns: dict[str, Column | None]
            if model is Signal:
                columns = {column.path: column for column in SIGNAL_COLUMNS} | dict.fromkeys((*_BAR_COLUMNS, CLUSTERS))
            else:
                columns = {column.path: column for column in OUTCOME_COLUMNS}
            unknown = sorted(found - set(columns))
            if unknown:
                raise InputError(
                    f"unknown column(s) {', '.join(map(repr, unknown[:5]))}",
                    limit=f"columns of {model.__name__}",
                    remedy="drop them, or upgrade Amiral if a newer one wrote the file",
                )
            return model, columns
    raise NoSnapshotsError(f"no snapshots: columns {', '.join(names[:6])}", limit="a table of signals or of outcomes")


def _record(
    row: dict[str, Any], model: type[Signal] | type[Outcome], columns: dict[str, Column | None], file: str, number: int, max_chars: int
) -> Signal | Outcome | Refused:
    try:
        return model.model_validate(_nested(row, columns))
    except ValidationError as error:
        reason = describe(error, max_chars)
    except ValueError as error:
        reason = f"not readable: {error}"[:max_chars]
    return Refused(file, number, reason, json.dumps(row, default=str))


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
            value = json.loads(value)
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
