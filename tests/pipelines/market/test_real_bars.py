"""The recorded bars, where they are at hand: they are not part of the repository."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.market.frame import build_market
from pipelines.market.inputs import MarketInputs
from pipelines.market.source import read_folder
from pipelines.market.table import Market
from pipelines.settings import load_settings

REPOSITORY = Path(__file__).resolve().parents[3]
FOLDER = REPOSITORY / "../shared/data"
pytestmark = pytest.mark.skipif(not (FOLDER / "es_5m.parquet").exists(), reason="the recorded bars (../shared/data) are not here")

PEAK = """
import re, sys
from pathlib import Path
from pipelines.market.frame import build_market
from pipelines.market.source import read_folder
from pipelines.settings import load_settings
settings = load_settings()
build_market(read_folder(Path(sys.argv[1]), settings), settings)
# Of this process alone: ru_maxrss begins with what the parent had.
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@cache
def real() -> tuple[MarketInputs, Market]:
    settings = load_settings()
    inputs = read_folder(FOLDER, settings)
    return inputs, build_market(inputs, settings)


def test_all_bars_are_good() -> None:
    inputs, market = real()
    market.validate()
    assert len(market) == 116_088
    assert set(inputs.quarantined["file"]) <= {"option_chains_spy.parquet"}
    assert (inputs.source, inputs.bar_minutes) == ("replay", 5)


def test_days_and_half_days() -> None:
    _, market = real()
    frame = market.frame
    half = pd.DatetimeIndex(frame.loc[frame["half_day"], "session"].unique())
    assert half.strftime("%Y-%m-%d").tolist() == ["2024-07-03", "2024-11-29", "2024-12-24", "2025-07-03", "2025-11-28", "2025-12-24"]
    assert frame.groupby("session")["is_regular"].sum().max() == 78
    assert pd.Timestamp("2025-01-20") not in set(frame["session"])  # a holiday


def test_figures_are_plausible() -> None:
    inputs, market = real()
    regular = market.frame[market.frame["is_regular"]]
    assert regular["atr_14"].median() == pytest.approx(5.3, abs=0.6)
    assert regular["es_nq_correlation"].median() > 0.8
    assert set(np.unique(np.diff(market.column("offset")))) >= {0.0}
    assert (np.diff(market.column("offset")) != 0).sum() == inputs.bars["roll"].sum() == 7
    for name in ("vwap", "poc", "vix_level", "es_nq_correlation", "overnight_high"):
        assert regular[name].notna().mean() > 0.99, name
    for name in ("ppoc", "prev_session_low"):
        assert (regular[name] - regular["close"]).abs().median() < 60.0, name


def test_it_fits_in_memory() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK, str(FOLDER)], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 1.5e9
