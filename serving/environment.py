"""How the settings reach BentoML's worker process: by name, through its environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.layout import DataLayout
from pipelines.settings import DEFAULT_PARAMS, Settings, load_settings

PARAMS, DATA, OVERRIDES = "AMIRAL_PARAMS", "AMIRAL_DATA", "AMIRAL_SET"


def to_environment(params: Path, data: Path, overrides: Sequence[str]) -> dict[str, str]:
    """Write the variables that `from_environment` reads."""
    return {PARAMS: str(params.absolute()), DATA: str(data.absolute()), OVERRIDES: json.dumps(list(overrides))}


def from_environment(variables: Mapping[str, str] = os.environ) -> tuple[Settings, DataLayout]:
    """Read settings and data folder; without variables, those of the project itself."""
    params = Path(variables[PARAMS]) if PARAMS in variables else DEFAULT_PARAMS
    overrides = json.loads(variables[OVERRIDES]) if OVERRIDES in variables else []
    settings = load_settings(params, overrides)
    data = Path(variables[DATA]) if DATA in variables else params.parent / settings.paths.data
    return settings, DataLayout(data)
