"""Disk full, a folder that cannot be written, Ctrl-C, a crash between two files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import pipelines.snapshots.ingest as ingest_module
from pipelines.errors import StorageError
from pipelines.snapshots.store import SnapshotStore
from tests.factories import make_trades
from tests.pipelines.snapshots.common import Place, pairs, write


@pytest.fixture
def filled(place: Place) -> Place:
    """A store with one trade, and a source with two more and a bad line."""
    first, *_ = pairs(1)
    write(place.raw / "1.jsonl", first)
    place.ingest()
    write(place.raw / "2.jsonl", [*(record for pair in pairs(3)[1:] for record in pair), b"{bad\n"])
    return place


def store_files(place: Place) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.store.folder.iterdir()}


def fail_on(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """Let putting a file of this name in place fail."""
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise error
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("name", ["signals.parquet", "outcomes.parquet"])
@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EROFS, "Read-only file system"), KeyboardInterrupt()],
    ids=["full", "read-only", "ctrl-c"],
)
def test_whatever_breaks_off_the_next_ingest_completes(
    filled: Place, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException, tmp_path: Path
) -> None:
    before = store_files(filled)
    with monkeypatch.context() as patch:
        fail_on(patch, name, error)
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else StorageError) as caught:
            filled.ingest()
    if isinstance(error, OSError):
        assert f"cannot write {filled.store.folder / name}: {error.strerror}; remedy:" in str(caught.value)
    after = store_files(filled)
    assert after[name] == before[name]
    assert set(after) == {"signals.parquet", "outcomes.parquet"}  # no temporary file stays
    assert len(filled.store.trades()) == 1  # readable and sound, between the two files too
    filled.ingest()
    assert filled.store.counts().trades == 3

    undisturbed = Place(tmp_path / "undisturbed")
    undisturbed.ingest(filled.raw)
    assert store_files(filled) == store_files(undisturbed)


def test_ctrl_c_while_reading_leaves_the_store_as_it_was(filled: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store_files(filled)
    real, seen = ingest_module.parse, []

    def parse(text: bytes, limit: int) -> Any:
        seen.append(text)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return real(text, limit)

    with monkeypatch.context() as patch:
        patch.setattr(ingest_module, "parse", parse)
        with pytest.raises(KeyboardInterrupt):
            filled.ingest()
    assert store_files(filled) == before
    assert filled.ingest().store.trades == 3


@pytest.mark.parametrize("blocked", ["store", "quarantine"])
def test_a_file_where_a_folder_should_be(place: Place, blocked: str) -> None:
    write(place.raw / "day.jsonl", [*pairs(1)[0], b"{bad\n"])
    (place.raw.parent / blocked).write_text("in the way")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        place.ingest()
    (place.raw.parent / blocked).unlink()
    assert place.ingest().store.trades == 1


def test_a_full_disk_is_told_by_its_name() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from pipelines.storage import storage_errors

    path = Path("/dev/full")
    # A stream, not the path: pyarrow removes a path that it could not write.
    with pytest.raises(StorageError, match=r"cannot write /dev/full: .*free some space"), storage_errors(path), path.open("wb") as stream:
        parquet.write_table(pa.table({"a": list(range(50_000))}), stream)


@pytest.mark.parametrize("name", ["signals.parquet", "outcomes.parquet"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other table", "newer"])
def test_an_unreadable_store_is_refused_and_left_alone(filled: Place, name: str, damage: str) -> None:
    path = filled.store.folder / name
    content = path.read_bytes()
    match damage:
        case "cut":
            path.write_bytes(content[:-100])
        case "text":
            path.write_bytes(b"hello")
        case "empty":
            path.write_bytes(b"")
        case "other table":
            other = make_trades(2)
            (other.outcomes if name == "signals.parquet" else other.signals).write(path)
        case "newer":
            import pandas as pd

            pd.read_parquet(path).assign(of_tomorrow=1.0).to_parquet(path)
    damaged = path.read_bytes()
    for act in (filled.ingest, filled.store.trades, filled.store.counts):
        with pytest.raises(StorageError, match=rf"{name} cannot be read: .*; expected a file that Amiral wrote; remedy: restore it"):
            act()
    assert path.read_bytes() == damaged


def test_an_empty_store_is_empty(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "none")
    assert len(store.trades()) == 0
    assert store.counts().signals == 0
    assert not store.folder.exists()
