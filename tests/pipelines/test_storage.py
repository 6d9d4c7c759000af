from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipelines.errors import StorageError
from pipelines.storage import write_atomically, write_text


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_text(path, "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_disk_is_named_with_a_remedy(tmp_path: Path, code: int) -> None:
    path = tmp_path / "report.json"
    write_text(path, "old")

    def refuse(temporary: Path) -> None:
        raise OSError(code, os.strerror(code), str(temporary))

    with pytest.raises(StorageError, match="remedy") as caught:
        write_atomically(path, refuse)
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        write_text(tmp_path / "data" / "report.json", "x")
