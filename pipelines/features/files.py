"""Features and windows of a table of trades on disk: a Parquet table with trade ids, and an array beside it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as arrow
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from pipelines.contracts.tables import SignalTable, canonical_floats
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURE_VERSION, FEATURES
from pipelines.features.window import WINDOW_VERSION
from pipelines.settings import Features
from pipelines.storage import write_atomically, write_bytes

Floats = NDArray[np.float64]

TABLE_FILE, WINDOWS_FILE = "features.parquet", "windows.npy"

_STAMP = b"amiral.stamp"

_REMEDY = "run the features stage again: `amiral stage features`"


def stamp(signals: SignalTable, settings: Features) -> str:
    """SHA-256 of what features and windows follow from: the signals, the settings, the versions of the formulas."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    digest.update(f"{FEATURE_VERSION}/{WINDOW_VERSION}".encode())
    digest.update(pd.util.hash_pandas_object(signals.frame.astype("str"), index=False).to_numpy("<u8").tobytes())
    for array in (signals.bars, signals.clusters):
        digest.update(canonical_floats(array))
    return digest.hexdigest()


def write(folder: Path, signals: SignalTable, features: Floats, windows: Floats, settings: Features) -> None:
    """Write the features, shape (n, 12), and the windows, shape (n, 32, channels), of n signals."""
    trade_ids = signals.frame["trade_id"]
    frame = pd.DataFrame(features, columns=list(FEATURES))
    frame.insert(0, "trade_id", trade_ids.to_numpy())
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(windows, dtype="<f4"), allow_pickle=False)
    write_bytes(folder / WINDOWS_FILE, stream.getvalue())
    table = arrow.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _STAMP: stamp(signals, settings).encode()})
    write_atomically(folder / TABLE_FILE, lambda path: parquet.write_table(table, path, compression="zstd"))


def read(folder: Path, signals: SignalTable, settings: Features) -> tuple[Floats, NDArray[np.float32]]:
    """Read what `write` wrote.

    Parameters
    ----------
    folder
        Where it was written.
    signals
        Those that the features are wanted of.
    settings
        Section `features` of the settings.

    Raises
    ------
    InputError
        A file is missing or damaged, or they are the features of other signals, or of other settings.
    """
    missing = [path for path in (folder / TABLE_FILE, folder / WINDOWS_FILE) if not path.exists()]
    if missing:
        raise InputError(f"{missing[0]} does not exist", remedy=_REMEDY)
    try:
        table = parquet.read_table(folder / TABLE_FILE)
        frame = table.to_pandas()
        windows = np.load(folder / WINDOWS_FILE, allow_pickle=False)
    except (arrow.ArrowInvalid, ValueError, EOFError, OSError) as error:
        raise InputError(f"the features in {folder} cannot be read: {error}", remedy=_REMEDY) from None
    if (table.schema.metadata or {}).get(_STAMP) != stamp(signals, settings).encode() or len(windows) != len(frame):
        raise InputError(
            f"{folder} holds the features of {len(frame)} other signals, or of other settings",
            limit=f"those of the {len(signals)} present signals by the present section `features`",
            remedy=_REMEDY,
        )
    return frame[list(FEATURES)].to_numpy(np.float64), windows
