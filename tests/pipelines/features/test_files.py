from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.contracts.signal import Signal
from pipelines.contracts.tables import SignalTable
from pipelines.errors import InputError
from pipelines.features import files
from pipelines.features.twelve import compute
from pipelines.features.window import compute_windows
from pipelines.settings import load_settings
from tests.factories import signal_dict

SETTINGS = load_settings().features


def signals(seed: int = 0) -> SignalTable:
    rng = np.random.default_rng(seed)
    return SignalTable.from_records([Signal.model_validate(signal_dict(rng, number)) for number in range(20)])


def written(folder: Path) -> SignalTable:
    table = signals()
    files.write(folder, table, compute(table, SETTINGS), compute_windows(table), SETTINGS)
    return table


def test_what_was_written_is_read(tmp_path: Path) -> None:
    table = written(tmp_path)
    features, windows = files.read(tmp_path, table, SETTINGS)
    np.testing.assert_array_equal(features, compute(table, SETTINGS))
    np.testing.assert_array_equal(windows, compute_windows(table))


def test_features_of_other_settings_or_of_corrected_signals_are_refused(tmp_path: Path) -> None:
    table = written(tmp_path)
    with pytest.raises(InputError, match=r"other settings.*run the features stage again"):
        files.read(tmp_path, table, SETTINGS.model_copy(update={"scale": "ticks"}))
    corrected = table.frame.assign(**{"market_state.close": table.frame["market_state.close"] + 0.25})
    with pytest.raises(InputError, match="of 20 other signals"):
        files.read(tmp_path, SignalTable(corrected, table.bars, table.clusters), SETTINGS)
    with pytest.raises(InputError, match="of 20 other signals"):
        files.read(tmp_path, signals(seed=1), SETTINGS)
    bars = table.bars.copy()
    bars[3, 5, 4] += 0.25
    with pytest.raises(InputError, match="of 20 other signals"):
        files.read(tmp_path, SignalTable(table.frame, bars, table.clusters), SETTINGS)


@pytest.mark.parametrize("name", ["features.parquet", "windows.npy"])
def test_missing_and_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    table = written(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        files.read(tmp_path, table, SETTINGS)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name} does not exist"):
        files.read(tmp_path, table, SETTINGS)
