"""Snapshots as text, and an ingest into a folder, for the tests beside this file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.settings import Snapshots
from pipelines.snapshots.ingest import ingest
from pipelines.snapshots.report import IngestReport
from pipelines.snapshots.store import SnapshotStore
from tests.factories import outcome_dict, signal_dict

SETTINGS = Snapshots(max_line_bytes=16384, block_records=3, max_reason_chars=300)
"""Small blocks, so that a few records already fill several."""


def pairs(count: int, seed: int = 0) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Signals with their outcomes."""
    rng = np.random.default_rng(seed)
    signals = [signal_dict(rng, number) for number in range(count)]
    return [(signal, outcome_dict(signal, rng)) for signal in signals]


def line(record: dict[str, Any]) -> bytes:
    """A record as a line."""
    return json.dumps(record).encode() + b"\n"


def write(path: Path, records: Sequence[dict[str, Any] | bytes]) -> Path:
    """Write records, and raw bytes as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(item if isinstance(item, bytes) else line(item) for item in records))
    return path


class Place:
    """A source folder, a store and a quarantine."""

    def __init__(self, root: Path) -> None:
        self.raw, self.quarantine = root / "raw", root / "quarantine"
        self.store = SnapshotStore(root / "store")

    def ingest(self, *sources: Path) -> IngestReport:
        """Ingest these sources, or the whole raw folder."""
        return ingest(sources or [self.raw], self.store, self.quarantine, SETTINGS)

    def refused(self) -> list[dict[str, Any]]:
        """All entries in quarantine."""
        files = sorted(self.quarantine.glob("*.jsonl")) if self.quarantine.exists() else []
        return [json.loads(text) for path in files for text in path.read_text(encoding="utf-8").splitlines()]

    def fingerprint(self) -> dict[str, str]:
        """Digest of every file in store and quarantine."""
        folders = (self.store.folder, self.quarantine)
        files = [path for folder in folders if folder.exists() for path in folder.rglob("*") if path.is_file()]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
