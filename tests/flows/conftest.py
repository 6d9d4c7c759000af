"""One small run of the real command, shared by the tests of this folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SMALL = ("synthetic.sessions=120", "gates.bootstrap_samples=200")
"""Settings of a run that takes seconds and still trains."""


def amiral(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    command = [str(Path(sys.executable).with_name("amiral")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | (env or {}), check=False, timeout=300)


def small(*arguments: str) -> list[str]:
    """Add the small settings to a command."""
    return [*arguments, *(part for setting in SMALL for part in ("--set", setting))]


@dataclass(frozen=True)
class Finished:
    """A finished run: what it printed as JSON, and where its data lie."""

    summary: dict[str, Any]
    data: Path
    stderr: str

    def read(self, name: str) -> Any:
        """Read one JSON file of the data folder."""
        return json.loads((self.data / name).read_text())


@pytest.fixture(scope="session")
def run_small() -> Callable[[Path], Finished]:
    """Run the nightly flow on the small synthetic market."""

    def run(data: Path, *extra: str) -> Finished:
        result = amiral(*small("run", "--json", "--synthetic", "--data", str(data), *extra))
        assert result.returncode == 0, result.stderr
        return Finished(json.loads(result.stdout), data, result.stderr)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, run_small: Callable[[Path], Finished]) -> Finished:
    """The run that the tests look at."""
    return run_small(tmp_path_factory.mktemp("run") / "data")
