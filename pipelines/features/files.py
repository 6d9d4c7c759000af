"""Features and windows of a table of trades on disk: a Parquet table with trade ids, and an array beside it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as arrow
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from pipelines.errors import InputError
from pipelines.features.twelve import FEATURES
from pipelines.storage import write_atomically, write_bytes

Floats = NDArray[np.float64]

TABLE_FILE, WINDOWS_FILE = "features.parquet", "windows.npy"

_REMEDY = "run the features stage again: `amiral stage features`"


def write(folder: Path, trade_ids: pd.Series, features: Floats, windows: Floats) -> None:
    """Write the features, shape (n, 12), and the windows, shape (n, 32, channels), of n trades."""
    frame = pd.DataFrame(features, columns=list(FEATURES))
    frame.insert(0, "trade_id", trade_ids.to_numpy())
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(windows, dtype="<f4"), allow_pickle=False)
    write_bytes(folder / WINDOWS_FILE, stream.getvalue())
    table = arrow.Table.from_pandas(frame, preserve_index=False)
    write_atomically(folder / TABLE_FILE, lambda path: parquet.write_table(table, path, compression="zstd"))


def read(folder: Path, trade_ids: pd.Series) -> tuple[Floats, NDArray[np.float32]]:
    """Read what `write` wrote.

    Parameters
    ----------
    folder
        Where it was written.
    trade_ids
        The trades, in order, that the features are wanted of.

    Raises
    ------
    InputError
        A file is missing or damaged, or they are the features of other trades.
    """
    try:
        frame = parquet.read_table(folder / TABLE_FILE).to_pandas()
        windows = np.load(folder / WINDOWS_FILE, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} does not exist", remedy=_REMEDY) from None
    except (arrow.ArrowInvalid, ValueError, EOFError, OSError) as error:
        raise InputError(f"the features in {folder} cannot be read: {error}", remedy=_REMEDY) from None
    if list(frame.columns) != ["trade_id", *FEATURES] or frame["trade_id"].tolist() != trade_ids.tolist() or len(windows) != len(frame):
        raise InputError(
            f"{folder} holds the features of {len(frame)} other trades", limit=f"those of the {len(trade_ids)} present ones", remedy=_REMEDY
        )
    return frame[list(FEATURES)].to_numpy(np.float64), windows
