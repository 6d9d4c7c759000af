"""The store of snapshots: what was known at the decision in one file, what came after in another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pyarrow as arrow

from pipelines.contracts.base import ContractError
from pipelines.contracts.tables import OutcomeTable, SignalTable, Trades, join
from pipelines.errors import StorageError
from pipelines.snapshots.pairs import faulty_pairs
from pipelines.storage import storage_errors

Table = TypeVar("Table", SignalTable, OutcomeTable)


@dataclass(frozen=True)
class SnapshotStore:
    """Signals and outcomes on disk, one row per trade each.

    The two files are written one after the other, each atomically. A crash between them leaves
    signals without their outcomes; the next ingest of the same sources completes them.

    Attributes
    ----------
    folder
        Holds signals.parquet and outcomes.parquet; need not exist before the first write.
    """

    folder: Path

    @property
    def signals_path(self) -> Path:
        """The signals (T0)."""
        return self.folder / "signals.parquet"

    @property
    def outcomes_path(self) -> Path:
        """The outcomes (T1 to T4)."""
        return self.folder / "outcomes.parquet"

    def signals(self) -> SignalTable:
        """All signals, sorted by (decision time, trade id); none when nothing was stored yet.

        Raises
        ------
        StorageError
            The file is there but cannot be read. It is left as it is.
        """
        return _read(self.signals_path, SignalTable.read, SignalTable.empty)

    def outcomes(self) -> OutcomeTable:
        """All outcomes, sorted by (exit time, trade id); raises `StorageError` as `signals` does."""
        return _read(self.outcomes_path, OutcomeTable.read, OutcomeTable.empty)

    def write(self, signals: SignalTable | None, outcomes: OutcomeTable | None) -> None:
        """Replace the tables that are given; None leaves one as it is.

        Raises
        ------
        ContractError
            A table breaks its schema (then nothing is written).
        StorageError
            Disk full, read-only folder or missing rights; the file that stood there still stands.
        """
        for table in (signals, outcomes):
            if table is not None:
                table.validate()
        if signals is not None:
            signals.write(self.signals_path)
        if outcomes is not None:
            outcomes.write(self.outcomes_path)

    def clear(self) -> None:
        """Empty the store."""
        with storage_errors(self.folder):
            self.outcomes_path.unlink(missing_ok=True)
            self.signals_path.unlink(missing_ok=True)

    def trades(self) -> Trades:
        """Closed trades, sorted by (decision time, trade id).

        Open signals, orphan outcomes and pairs that cannot be of one trade stay out (and stay stored).
        """
        return sound_trades(self.signals(), self.outcomes())

    def counts(self) -> StoreCounts:
        """Count what is stored."""
        return count(self.signals(), self.outcomes())


@dataclass(frozen=True)
class StoreCounts:
    """What a store holds.

    Attributes
    ----------
    signals, outcomes
        Rows.
    trades
        Signals with an outcome of the same trade.
    open_signals
        Signals whose outcome has not come yet.
    orphan_outcomes
        Outcomes whose signal has not come yet.
    faulty_pairs
        Signals and outcomes of one trade id that cannot be of one trade.
    """

    signals: int
    outcomes: int
    trades: int
    open_signals: int
    orphan_outcomes: int
    faulty_pairs: int


def sound_trades(signals: SignalTable, outcomes: OutcomeTable) -> Trades:
    """Pair signals with outcomes; leave out the pairs that cannot be of one trade."""
    pairs = join(signals, outcomes)
    faulty = faulty_pairs(pairs)
    return pairs.take(np.flatnonzero(~faulty)) if faulty.any() else pairs


def count(signals: SignalTable, outcomes: OutcomeTable) -> StoreCounts:
    """Count trades, open signals and orphans."""
    left, right = pd.Index(signals.frame["trade_id"]), pd.Index(outcomes.frame["trade_id"])
    paired = int(left.isin(right).sum())
    faulty = int(faulty_pairs(join(signals, outcomes)).sum())
    return StoreCounts(
        signals=len(left),
        outcomes=len(right),
        trades=paired - faulty,
        open_signals=len(left) - paired,
        orphan_outcomes=len(right) - paired,
        faulty_pairs=faulty,
    )


def _read(path: Path, read: Callable[[Path], Table], empty: Callable[[], Table]) -> Table:
    if not path.exists():
        return empty()
    try:
        return read(path)
    except (arrow.ArrowException, OSError, ContractError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StorageError(
            f"{path} cannot be read: {reason[:200]}",
            limit="a file that Amiral wrote",
            remedy="restore it from a backup, or move it away and ingest all sources again; it was left as it is",
        ) from error
