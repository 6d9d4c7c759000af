"""One version per trade: the last one wins, whatever the order and the files it came in.

"Last" is a property of the records themselves: the later `recorded_at`, and of two versions
recorded at the same moment the one with the greater content digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.contracts.columns import Column
from pipelines.contracts.tables import OUTCOME_COLUMNS, SIGNAL_COLUMNS, OutcomeTable, SignalTable

Table = TypeVar("Table", SignalTable, OutcomeTable)

_DIGEST_ROWS = 4096
"""Rows whose content is laid out in memory at a time, 2.5 kB each."""


@dataclass(frozen=True)
class Counts:
    """What became of the records that came in.

    Attributes
    ----------
    records
        All of them: duplicates + unchanged + superseded + added + updated.
    duplicates
        Exact copies of a record that also came in.
    unchanged
        Already in the store, to the last digit.
    superseded
        Lost against a later version of their trade.
    added
        First record of a trade.
    updated
        Took the place of an older version in the store.
    """

    records: int
    duplicates: int
    unchanged: int
    superseded: int
    added: int
    updated: int


@dataclass(frozen=True)
class Merged(Generic[Table]):
    """A table with one row per trade, sorted by (time, trade id), and how it came about.

    `changed` is False when the table is the stored one.
    """

    table: Table
    counts: Counts
    changed: bool


def merge(stored: Table, incoming: Sequence[Table]) -> Merged[Table]:
    """Merge tables by `trade_id`; the last version wins.

    Parameters
    ----------
    stored
        One row per trade.
    incoming
        Any number of rows per trade.
    """
    tables = [stored]
    tables.extend(incoming)
    keys = _keys(tables)
    size, own = len(keys), len(stored)
    order = np.lexsort((np.arange(size), keys["low"], keys["high"], keys["recorded_at"], keys["trade"]))
    ordered = keys.iloc[order]
    columns = ordered[["trade", "recorded_at", "high", "low"]].to_numpy()
    starts = _starts(columns)  # first of each run of equal records
    last_of_trade = _starts(columns[::-1, :1])[::-1]
    # Within a run the stored copy comes first, so the run's first row stands for it.
    run = np.cumsum(starts) - 1
    first_of_run = order[starts]
    winners = first_of_run[run[last_of_trade]]

    met = np.unique(run[order >= own])  # runs that came in
    was_stored = first_of_run < own
    won = np.isin(first_of_run, winners)
    fresh = winners[winners >= own]
    known = np.isin(keys["trade"].to_numpy()[fresh], keys["trade"].to_numpy()[:own])
    counts = Counts(
        records=size - own,
        duplicates=size - own - len(met),
        unchanged=int(was_stored[met].sum()),
        superseded=int((~won[met] & ~was_stored[met]).sum()),
        added=int((~known).sum()),
        updated=int(known.sum()),
    )
    if not len(fresh):
        return Merged(stored, counts, changed=False)
    return Merged(_gather(tables, np.sort(winners)), counts, changed=True)


def digests(table: SignalTable | OutcomeTable, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Content digests of rows, shape (len(rows), 2): equal for equal records, on any machine.

    Minus zero equals zero, and every NaN equals every other.
    """
    result = np.empty((len(rows), 2), dtype=">u8")
    for begin in range(0, len(rows), _DIGEST_ROWS):
        content = _content(table.take(rows[begin : begin + _DIGEST_ROWS]))
        parts = [hashlib.blake2b(row.data, digest_size=16).digest() for row in content]
        result[begin : begin + len(parts)] = np.frombuffer(b"".join(parts), dtype=">u8").reshape(-1, 2)
    return result.astype(np.uint64)


def _keys(tables: Sequence[SignalTable | OutcomeTable]) -> pd.DataFrame:
    """One row per record: trade number, recorded_at in microseconds, digest (zero where no tie needs it)."""
    names = pd.concat([table.frame["trade_id"] for table in tables], ignore_index=True)
    moments = pd.concat([table.frame["recorded_at"] for table in tables], ignore_index=True)
    keys = pd.DataFrame({"trade": pd.factorize(names)[0], "recorded_at": moments.astype("int64")})
    tied = keys.duplicated(keep=False).to_numpy()
    found = np.zeros((len(keys), 2), dtype=np.uint64)
    begin = 0
    for table in tables:
        rows = np.flatnonzero(tied[begin : begin + len(table)])
        if len(rows):
            found[begin + rows] = digests(table, rows)
        begin += len(table)
    # The order of signed numbers is as good as that of unsigned ones, and one dtype for all keys.
    return keys.assign(high=found[:, 0].view(np.int64), low=found[:, 1].view(np.int64))


def _starts(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    starts = np.ones(len(rows), dtype=bool)
    starts[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return starts


def _gather(tables: Sequence[Table], winners: NDArray[np.int64]) -> Table:
    """Take the winners (sorted positions in the stack of tables) and sort them by (time, trade id)."""
    chosen = []
    begin = 0
    for table in tables:
        inside = winners[np.searchsorted(winners, begin) : np.searchsorted(winners, begin + len(table))] - begin
        # Most blocks are taken whole, and a table is never changed: no copy then.
        chosen.append(table if len(inside) == len(table) else table.take(inside))
        begin += len(table)
    stacked = type(tables[0]).concat(chosen)
    time = "decision_time" if isinstance(stacked, SignalTable) else "exit_time"
    keys = pd.DataFrame({"time": stacked.frame[time], "trade_id": stacked.frame["trade_id"]})
    order = keys.sort_values(["time", "trade_id"], kind="stable").index.to_numpy()
    return stacked if (order == np.arange(len(order))).all() else stacked.take(order)


def _content(table: SignalTable | OutcomeTable) -> NDArray[np.uint64]:
    """Every value of every row as one 64-bit word, shape (rows, words)."""
    columns = SIGNAL_COLUMNS if isinstance(table, SignalTable) else OUTCOME_COLUMNS
    words = [_words(table.frame[column.path], column)[:, np.newaxis] for column in columns]
    if isinstance(table, SignalTable):
        words += [_bits(table.bars.reshape(len(table), -1)), _bits(table.clusters)]
    return np.ascontiguousarray(np.concatenate(words, axis=1))


def _words(series: pd.Series, column: Column) -> NDArray[np.uint64]:
    if column.kind in ("float", "int"):
        return _bits(series.to_numpy(np.float64))
    if column.kind == "bool":
        return _bits(series.to_numpy(np.float64, na_value=np.nan))
    if column.kind == "time":
        return series.to_numpy("datetime64[us]").view(np.uint64)
    return pd.util.hash_pandas_object(series, index=False).to_numpy(np.uint64)


def _bits(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    clean = np.ascontiguousarray(values, dtype="<f8") + 0.0
    clean[np.isnan(clean)] = np.nan
    return clean.view("<u8")
