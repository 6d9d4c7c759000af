"""Which code made a result."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version

from pipelines.settings import PROJECT_ROOT


@cache
def code_version() -> str:
    """Name the git commit, with "-dirty" when files differ from it; outside git the package version."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return f"amiral-{version('amiral')}"
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", "-C", str(PROJECT_ROOT), *arguments], capture_output=True, text=True, check=True, timeout=20)
    return result.stdout.strip()
