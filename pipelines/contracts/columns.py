"""The flat columns of a contract, read off its pydantic model.

One description serves the nested record, the table, its pandera schema and its Parquet file,
so they cannot drift apart. A nested field becomes a dotted column, "market_state.close".
"""

from __future__ import annotations

import itertools
import json
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal

import numpy as np
import pandas as pd
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AwareDatetime, BaseModel

from pipelines.contracts.base import ContractError

Kind = Literal["float", "int", "bool", "text", "time", "json"]

_DTYPES: dict[Kind, str] = {
    "float": "float64",
    "int": "float64",
    "bool": "boolean",
    "text": "str",
    "time": "datetime64[us, UTC]",
    "json": "str",
}


@dataclass(frozen=True)
class Column:
    """One scalar field of a contract as a table column.

    A whole number is held as float64 so that a missing one is NaN like everywhere else;
    lists and maps are held as JSON text.
    """

    path: str
    kind: Kind
    nullable: bool
    lower: float | None = None
    upper: float | None = None
    lower_open: bool = False
    choices: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """The pandas dtype."""
        return _DTYPES[self.kind]


def columns_of(model: type[BaseModel], *, leave_out: Iterable[str] = ()) -> tuple[Column, ...]:
    """List the scalar columns of a contract, depth first, in field order.

    Parameters
    ----------
    model
        A contract.
    leave_out
        Dotted paths that are stored as arrays beside the table.
    """
    return tuple(_walk(model, "", frozenset(leave_out)))


def _walk(model: type[BaseModel], prefix: str, left_out: frozenset[str]) -> Iterable[Column]:
    for name, field in model.model_fields.items():
        path = prefix + name
        if path in left_out:
            continue
        inner, nullable, metadata = _unwrap(field.annotation)
        metadata = [*field.metadata, *metadata]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _walk(inner, path + ".", left_out)
            continue
        kind, choices = _kind(inner)
        lower, lower_open, upper = _bounds(metadata)
        yield Column(path, kind, nullable, lower, upper, lower_open, choices)


def _unwrap(annotation: Any) -> tuple[Any, bool, list[Any]]:
    metadata: list[Any] = []
    nullable = False
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation, *extra = typing.get_args(annotation)
            metadata.extend(extra)
        elif origin in (typing.Union, types.UnionType):
            options = [option for option in typing.get_args(annotation) if option is not type(None)]
            if len(options) != 1:
                raise TypeError(f"a contract field may be of one type or None, not {annotation}")
            nullable = True
            annotation = options[0]
        else:
            return annotation, nullable, metadata


def _kind(inner: Any) -> tuple[Kind, tuple[str, ...]]:
    origin = typing.get_origin(inner)
    if origin is Literal:
        return "text", typing.get_args(inner)
    if origin in (tuple, dict):
        return "json", ()
    kinds: dict[Any, Kind] = {float: "float", int: "int", bool: "bool", str: "text", AwareDatetime: "time"}
    return kinds[inner], ()


def _bounds(metadata: list[Any]) -> tuple[float | None, bool, float | None]:
    lower: float | None = None
    upper: float | None = None
    lower_open = False
    for item in metadata:
        for constraint in getattr(item, "metadata", [item]):
            match constraint:
                case Ge(ge):
                    lower = float(typing.cast(float, ge))
                case Gt(gt):
                    lower, lower_open = float(typing.cast(float, gt)), True
                case Le(le) | Lt(le):
                    upper = float(typing.cast(float, le))
    return lower, lower_open, upper


def flatten(records: Sequence[Any], columns: tuple[Column, ...]) -> pd.DataFrame:
    """Turn validated records into a table with one dotted column per scalar field."""
    parts: dict[str, list[dict[str, Any]]] = {"": [vars(record) for record in records]}
    values: dict[str, Sequence[Any]] = {}
    for parent, members in itertools.groupby(columns, key=lambda column: column.path.rpartition(".")[0]):
        names = [column.path for column in members]
        # One look-up per record and part of it, not one per record and column: four times as fast.
        read = itemgetter(*(name.rpartition(".")[2] for name in names))
        found = map(read, _parts(parts, parent))
        values.update(zip(names, zip(*found, strict=True) if len(names) > 1 else [list(found)], strict=True))
    return pd.DataFrame({column.path: _array(values[column.path], column) for column in columns}, copy=False)


def _parts(known: dict[str, list[dict[str, Any]]], path: str) -> list[dict[str, Any]]:
    """The fields of the part of every record that lies under a dotted path."""
    if path not in known:
        parent, _, leaf = path.rpartition(".")
        known[path] = [vars(fields[leaf]) for fields in _parts(known, parent)]
    return known[path]


def _array(values: Sequence[Any], column: Column) -> Any:
    if column.kind in ("float", "int"):
        # Adding zero leaves one zero of the two: the sign must not make two records of one.
        return np.array(values, dtype=np.float64) + 0.0
    if column.kind == "json":
        texts = [json.dumps(value, sort_keys=True) if value else None for value in values]
        return pd.array(texts, dtype="str")
    if column.kind == "time":
        return pd.Series(pd.to_datetime(list(values), utc=True)).astype(column.dtype)
    return pd.array(list(values), dtype=column.dtype)


def empty_frame(columns: tuple[Column, ...]) -> pd.DataFrame:
    """A table of no rows with the right columns and dtypes."""
    return conform(pd.DataFrame(), columns)


def conform(frame: pd.DataFrame, columns: tuple[Column, ...]) -> pd.DataFrame:
    """Bring a table to exactly the contract's columns, order and dtypes; absent ones become missing.

    Raises
    ------
    ContractError
        The table has a column that the contract does not know.
    """
    unknown = sorted(set(frame.columns) - {column.path for column in columns})
    if unknown:
        raise ContractError(
            f"unknown column(s) {', '.join(map(repr, unknown[:5]))}",
            limit="the columns of the contract",
            remedy="drop them; a newer Amiral may have written them",
        )
    size = len(frame)
    result = {}
    for column in columns:
        if column.path in frame:
            result[column.path] = frame[column.path].astype(column.dtype)
        else:
            result[column.path] = pd.Series([None] * size, index=frame.index, dtype=column.dtype)
    return pd.DataFrame(result, index=frame.index).reset_index(drop=True)


def nest(frame: pd.DataFrame, columns: tuple[Column, ...]) -> list[dict[str, Any]]:
    """Turn table rows back into nested plain dicts, leaving missing values out (their default holds)."""
    records: list[dict[str, Any]] = [{} for _ in range(len(frame))]
    for column in columns:
        *parents, leaf = column.path.split(".")
        read = _reader(column)
        present = frame[column.path].notna().to_numpy()
        for record, value, there in zip(records, frame[column.path].tolist(), present, strict=True):
            if not there:
                continue
            node = record
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = read(value)
    return records


def _reader(column: Column) -> Callable[[Any], Any]:
    match column.kind:
        case "int":
            return int
        case "time":
            return lambda value: value.isoformat().replace("+00:00", "Z")
        case "json":
            return json.loads
    return lambda value: value
