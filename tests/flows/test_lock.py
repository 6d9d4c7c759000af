from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.lock import exclusive
from pipelines.errors import StorageError
from pipelines.layout import DataLayout


def test_a_second_run_on_the_same_folder_is_refused_and_names_the_first(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from flows.lock import exclusive; from pipelines.layout import DataLayout\n"
        "with exclusive(DataLayout(Path(sys.argv[1]))):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match=f"in use by process {holder.pid}"), exclusive(DataLayout(tmp_path)):
            pass
        holder.kill()
    # The operating system frees the lock of a process that was killed.
    with exclusive(DataLayout(tmp_path)):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_file_in_place_of_the_folder_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StorageError, match="remedy"), exclusive(DataLayout(tmp_path / "data")):
        pass
