"""Ingest: files of snapshots into the store, each bad line into quarantine with its reason."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipelines.contracts.outcome import Outcome, TradeSnapshot
from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import OutcomeTable, SignalTable, join
from pipelines.errors import InputError
from pipelines.settings import Snapshots
from pipelines.snapshots.lines import Line, read_lines
from pipelines.snapshots.merge import merge
from pipelines.snapshots.pairs import explain, faulty_pairs
from pipelines.snapshots.quarantine import Refused, as_text, quarantine_path, write_refused
from pipelines.snapshots.records import RecordError, is_whole, parse
from pipelines.snapshots.report import FileReport, IngestReport
from pipelines.snapshots.rows import NoSnapshotsError, read_rows
from pipelines.snapshots.sources import find
from pipelines.snapshots.store import SnapshotStore, count

Progress = Callable[[int, int], None]
"""Called with bytes read and bytes in all."""

PAIRS_FILE = "faulty-pairs.jsonl"
"""Quarantine file of the pairs that cannot be of one trade; both records stay in the store."""


def ingest(
    sources: Sequence[Path],
    store: SnapshotStore,
    quarantine: Path,
    settings: Snapshots,
    *,
    progress: Progress | None = None,
) -> IngestReport:
    """Merge files of snapshots into the store.

    The result depends on the records alone, not on their order or their split into files, and
    ingesting a source again changes nothing. The store is written last and in one go: whatever
    interrupts the reading leaves it as it was.

    Parameters
    ----------
    sources
        Files or folders with *.jsonl (one record a line) and *.parquet (of `SignalTable.write` or
        `OutcomeTable.write`).
    store
        Where the records go.
    quarantine
        Folder of the refused lines, one file per source, written anew with every ingest of it.
    settings
        The section `snapshots`.
    progress
        Told about every file and block.

    Raises
    ------
    InputError
        A source does not exist, or there is nothing to read.
    StorageError
        The store is unreadable, or store or quarantine cannot be written.
    """
    found = find(sources, leave_out=(quarantine, store.folder))
    stored_signals, stored_outcomes = store.signals(), store.outcomes()
    collected = _Collected(settings, progress, sum(_size(path) for path in found.files))
    files = []
    for path in found.files:
        report, refused = collected.read(path)
        write_refused(quarantine_path(quarantine, path), refused)
        files.append(report)
    signals = merge(stored_signals, collected.signals)
    outcomes = merge(stored_outcomes, collected.outcomes)
    write_refused(quarantine / PAIRS_FILE, _faulty(signals.table, outcomes.table))
    store.write(signals.table if signals.changed else None, outcomes.table if outcomes.changed else None)
    return IngestReport(tuple(files), found.ignored, signals.counts, outcomes.counts, count(signals.table, outcomes.table))


def ingest_tables(signals: SignalTable, outcomes: OutcomeTable, store: SnapshotStore, *, replace: bool = False) -> IngestReport:
    """Merge tables (of a replay) into the store, or put them in place of what is stored.

    Raises
    ------
    ContractError
        A table breaks its schema.
    StorageError
        The store is unreadable or cannot be written.
    """
    merged_signals = merge(SignalTable.empty() if replace else store.signals(), [signals])
    merged_outcomes = merge(OutcomeTable.empty() if replace else store.outcomes(), [outcomes])
    if replace:
        store.clear()  # new signals must never meet outcomes of another replay, even after a crash
    store.write(
        merged_signals.table if merged_signals.changed or replace else None,
        merged_outcomes.table if merged_outcomes.changed or replace else None,
    )
    counts = count(merged_signals.table, merged_outcomes.table)
    return IngestReport((), (), merged_signals.counts, merged_outcomes.counts, counts)


@dataclass
class _Collected:
    """What was read so far: tables of finished blocks, and how far the reading is."""

    settings: Snapshots
    progress: Progress | None
    total_bytes: int
    signals: list[SignalTable] = field(default_factory=list)
    outcomes: list[OutcomeTable] = field(default_factory=list)
    done_bytes: int = 0

    def read(self, path: Path) -> tuple[FileReport, list[Refused]]:
        """Read one file; nothing in it stops the ingest."""
        tally = _Tally(str(path))
        try:
            content = self._lines(path, tally) if path.suffix == ".jsonl" else self._rows(path)
            self._collect(content, tally)
        except NoSnapshotsError as error:
            tally.problem = str(error)
        except (InputError, OSError) as error:
            tally.problem = str(error)
            tally.refused.append(Refused(tally.path, None, str(error), ""))
        self._advance(0)
        return tally.report(), tally.refused

    def _collect(self, content: Iterator[Signal | Outcome | TradeSnapshot | Refused], tally: _Tally) -> None:
        signals: list[Signal] = []
        outcomes: list[Outcome] = []
        try:
            with _collector_paused():
                for item in content:
                    match item:
                        case Signal():
                            signals.append(item)
                        case Outcome():
                            outcomes.append(item)
                        case TradeSnapshot():
                            signals.append(item.signal)
                            outcomes.append(item.outcome)
                        case Refused():
                            tally.refused.append(item)
                    if len(signals) + len(outcomes) >= self.settings.block_records:
                        self._finish_block(signals, outcomes, tally)
        finally:
            # What was read of a file that breaks off in the middle is not lost.
            self._finish_block(signals, outcomes, tally)

    def _finish_block(self, signals: list[Signal], outcomes: list[Outcome], tally: _Tally) -> None:
        tally.signals += len(signals)
        tally.outcomes += len(outcomes)
        if signals:
            self.signals.append(SignalTable.from_records(signals))
        if outcomes:
            self.outcomes.append(OutcomeTable.from_records(outcomes))
        signals.clear()
        outcomes.clear()
        if self.progress is not None:
            self.progress(min(self.done_bytes, self.total_bytes), self.total_bytes)

    def _lines(self, path: Path, tally: _Tally) -> Iterator[Signal | Outcome | TradeSnapshot | Refused]:
        for line in read_lines(path, self.settings.max_line_bytes):
            self._advance(line.size + 1)
            if line.size <= self.settings.max_line_bytes:
                if not line.text.strip():
                    continue
                if not line.ended and not is_whole(line.text):
                    if b"\r" in line.text:  # it would wait for ever
                        raise InputError(
                            f"no line feed in {line.size} bytes", remedy="end lines with a line feed, not with a carriage return alone"
                        )
                    tally.pending_bytes = line.size
                    return
            yield self._parse(line, path)

    def _parse(self, line: Line, path: Path) -> Signal | Outcome | TradeSnapshot | Refused:
        limit = self.settings.max_line_bytes
        if line.size > limit:
            reason = f"a line of {line.size} bytes; expected at most {limit} (snapshots.max_line_bytes); the beginning is kept here"
            return Refused(str(path), line.number, reason, as_text(line.text[:_KEPT_OF_LONG_LINE]))
        try:
            return parse(line.text, self.settings.max_reason_chars)
        except RecordError as error:
            return Refused(str(path), line.number, str(error), as_text(line.text))

    def _rows(self, path: Path) -> Iterator[Signal | Outcome | Refused]:
        yield from read_rows(path, self.settings.max_reason_chars)
        self._advance(_size(path))

    def _advance(self, size: int) -> None:
        self.done_bytes += size


@dataclass
class _Tally:
    """The counts of one file while it is read."""

    path: str
    signals: int = 0
    outcomes: int = 0
    pending_bytes: int = 0
    problem: str | None = None
    refused: list[Refused] = field(default_factory=list)

    def report(self) -> FileReport:
        return FileReport(self.path, self.signals, self.outcomes, len(self.refused), self.pending_bytes, self.problem)


_KEPT_OF_LONG_LINE = 2000
"""Bytes of an over-long line that go to quarantine; the source still has all of it."""


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector: records hold no cycles, and walking them doubles the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _faulty(signals: SignalTable, outcomes: OutcomeTable) -> list[Refused]:
    pairs = join(signals, outcomes)
    chosen = pairs.take(np.flatnonzero(faulty_pairs(pairs)))
    records = zip(explain(chosen), chosen.signals.to_dicts(), chosen.outcomes.to_dicts(), strict=True)
    return [
        Refused("store", None, reason, json.dumps({"signal": signal, "outcome": outcome}, sort_keys=True))
        for reason, signal, outcome in records
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
