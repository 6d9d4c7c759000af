"""The dataset: one row per closed trade with features, window, targets and label interval, its hash and its card.

One table holds all but the windows, so that a row cannot be torn apart; features are the columns
"feature.<name>", targets "target.<name>". The windows of the LSTM lie beside it as one array in
the table's order, and one hash covers both. Nothing is dropped: a dataset has as many rows as
there are closed trades.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from pipelines import targets as target_stage
from pipelines.contracts.base import EARLIEST, LATEST, SCHEMA_VERSION, WINDOW_BARS, ContractError
from pipelines.contracts.tables import Trades, canonical_floats, check_schema
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURE_VERSION, FEATURES
from pipelines.features.window import CHANNELS, WINDOW_VERSION
from pipelines.settings import Settings
from pipelines.storage import write_atomically, write_bytes, write_text
from pipelines.targets import BINARY_TARGETS, TARGETS

Floats = NDArray[np.float64]

TABLE_FILE = "dataset.parquet"
WINDOWS_FILE = "windows.npy"
CARD_FILE = "card.json"

_TIME = pd.DatetimeTZDtype("us", "UTC")
_KEYS = ("trade_id", "decision_time", "exit_time", "symbol", "data_source", "side", "confidence")
_TEXTS = ("trade_id", "symbol", "data_source")

DATASET_SCHEMA = pa.DataFrameSchema(
    {
        "trade_id": pa.Column("str", unique=True),
        "decision_time": pa.Column(_TIME),
        "exit_time": pa.Column(_TIME),
        "symbol": pa.Column("str"),
        "data_source": pa.Column("str"),
        "side": pa.Column("float64", pa.Check.isin((-1.0, 1.0))),
        "confidence": pa.Column("float64", pa.Check.in_range(0.0, 1.0)),
        **{f"feature.{name}": pa.Column("float64", pa.Check.in_range(-1.0, 1.0), nullable=True) for name in FEATURES},
        **{f"target.{name}": pa.Column("float64", pa.Check.isin((0.0, 1.0))) for name in BINARY_TARGETS},
        "target.net_pnl": pa.Column("float64"),
        "target.realized_r": pa.Column("float64"),
        "target.signal_strength": pa.Column("float64", pa.Check.in_range(0.0, 1.0)),
        "target.exit_timing": pa.Column("float64", pa.Check.ge(0.0), nullable=True),
    },
    checks=pa.Check(lambda frame: frame["exit_time"] >= frame["decision_time"], name="exit_time >= decision_time"),
    strict=True,
    ordered=True,
    name="dataset",
)
"""Pandera schema of `Dataset.frame`. Features are NaN where an input was missing; `side` is +1 long, -1 short."""


@dataclass(frozen=True)
class Dataset:
    """Examples to learn from, sorted by (decision time, trade id).

    Attributes
    ----------
    frame
        Columns `DATASET_SCHEMA`.
    card
        What the data are: rows, span, sources, input hash, parameters, code version, balance. JSON-able.
    windows
        Shape (n, 32, C), float32, last axis `pipelines.features.window.CHANNELS`; row i is of row i of `frame`.
    """

    frame: pd.DataFrame
    card: dict[str, Any]
    windows: NDArray[np.float32]

    def __post_init__(self) -> None:
        wanted = _windows_shape(len(self.frame))
        if self.windows.shape != wanted or self.windows.dtype != np.float32:
            raise ValueError(f"windows {self.windows.shape} of {self.windows.dtype} must be {wanted} of float32")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of `features`."""
        return FEATURES

    @cached_property
    def features(self) -> Floats:
        """Shape (n, 12), NaN where missing."""
        return self.frame[[f"feature.{name}" for name in FEATURES]].to_numpy(np.float64)

    def matrix(self, windowed: bool) -> Floats:
        """What an estimator takes as X: the features, shape (n, 12), or with the flattened windows, (n, 12 + 32 * C)."""
        return self._windowed if windowed else self.features

    @cached_property
    def _windowed(self) -> Floats:
        return np.concatenate([self.features, self.windows.reshape(len(self), WINDOW_BARS * len(CHANNELS)).astype(np.float64)], axis=1)

    @cached_property
    def targets(self) -> pd.DataFrame:
        """Columns `TARGETS`."""
        return self.frame[[f"target.{name}" for name in TARGETS]].set_axis(list(TARGETS), axis=1)

    def target(self, name: str) -> Floats:
        """One target; shape (n,), NaN where it was not recorded."""
        return self.frame[f"target.{name}"].to_numpy(np.float64)

    @cached_property
    def start(self) -> NDArray[np.int64]:
        """Decision times, ns since 1970 UTC: the closed left ends of the label intervals."""
        return _nanoseconds(self.frame["decision_time"])

    @cached_property
    def end(self) -> NDArray[np.int64]:
        """Exit times, ns since 1970 UTC: the closed right ends of the label intervals."""
        return _nanoseconds(self.frame["exit_time"])

    @cached_property
    def trading_days(self) -> NDArray[np.int64]:
        """Trading day of each decision, days since 1970; it begins at 18:00 New York of the evening before."""
        local = self.frame["decision_time"].dt.tz_convert("America/New_York").dt.tz_localize(None)
        return (local + pd.Timedelta(hours=6)).astype("datetime64[ns]").astype("int64").to_numpy() // 86_400_000_000_000

    @property
    def trade_ids(self) -> NDArray[Any]:
        """Shape (n,), text."""
        return self.frame["trade_id"].to_numpy()

    @property
    def side(self) -> Floats:
        """+1 long, -1 short; shape (n,)."""
        return self.frame["side"].to_numpy(np.float64)

    @property
    def confidence(self) -> Floats:
        """The strategy's own confidence at decision time, 0 to 1; shape (n,)."""
        return self.frame["confidence"].to_numpy(np.float64)

    @property
    def content_hash(self) -> str:
        """SHA-256 over every value; independent of the Parquet file's bytes."""
        return str(self.card["content_hash"])


def build(trades: Trades, features: Floats, windows: NDArray[np.floating[Any]], settings: Settings, *, code_version: str) -> Dataset:
    """Put features, windows and targets of closed trades side by side.

    Parameters
    ----------
    trades
        n closed trades.
    features
        Shape (n, 12), columns `FEATURES`, NaN where missing; row i is of trade i.
    windows
        Shape (n, 32, C), last axis `pipelines.features.window.CHANNELS`; row i is of trade i.
    settings
        All settings; those of features, targets and instrument enter the card.
    code_version
        Git commit of the code, for the card.

    Raises
    ------
    ContractError
        A value breaks the dataset's schema (twice the same trade, exit before decision, ...), or a window is not finite.
    """
    if features.shape != (len(trades), len(FEATURES)):
        raise ValueError(f"features {features.shape} must be {(len(trades), len(FEATURES))}")
    frame = pd.concat(
        [_keys(trades), _prefixed("feature", features, FEATURES), _prefixed("target", _targets(trades, settings), TARGETS)], axis=1
    )
    frame = frame.sort_values(["decision_time", "trade_id"], kind="stable")
    order = frame.index.to_numpy(np.int64)
    frame = frame.reset_index(drop=True)
    check_schema(DATASET_SCHEMA, frame)
    ordered = _finite_windows(windows, trades)[order]
    return Dataset(frame, _card(frame, ordered, trades, settings, code_version), ordered)


def write(dataset: Dataset, folder: Path) -> None:
    """Write `dataset.parquet`, `windows.npy` and `card.json`, each atomically, the card last."""
    table = arrow.Table.from_pandas(dataset.frame, preserve_index=False)
    write_atomically(folder / TABLE_FILE, lambda path: parquet.write_table(table, path, compression="zstd"))
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(dataset.windows, dtype="<f4"), allow_pickle=False)
    write_bytes(folder / WINDOWS_FILE, stream.getvalue())
    write_text(folder / CARD_FILE, json.dumps(dataset.card, indent=2, sort_keys=True) + "\n")


def read(folder: Path) -> Dataset:
    """Read what `write` wrote, and hold it against its schema and its card.

    Raises
    ------
    InputError
        A file is missing or cannot be read, or table and windows are not those that the card describes.
    ContractError
        A value breaks the schema.
    """
    remedy = "run the dataset stage again"
    try:
        card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        frame = parquet.read_table(folder / TABLE_FILE).to_pandas()
        windows = _read_windows(folder / WINDOWS_FILE)
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} does not exist", remedy=remedy) from None
    except (json.JSONDecodeError, UnicodeDecodeError, arrow.ArrowInvalid, _DamagedError) as error:
        raise InputError(f"the dataset in {folder} cannot be read: {error}", remedy=remedy) from None
    frame = frame.astype({column: "str" for column in _TEXTS if column in frame})
    check_schema(DATASET_SCHEMA, frame)
    if not isinstance(card, dict) or not {"rows", "content_hash"} <= card.keys():
        raise InputError(f"{folder / CARD_FILE} is not the card of a dataset", limit="the keys rows and content_hash", remedy=remedy)
    # Of the card and not of the table: when the table is a foreign one, it is not the windows that are wrong.
    wanted = _windows_shape(card["rows"])
    if windows.shape != wanted or windows.dtype != np.dtype("<f4"):
        raise InputError(
            f"{folder / WINDOWS_FILE} has shape {windows.shape} of {windows.dtype}", limit=f"{wanted} of float32", remedy=remedy
        )
    windows = windows.astype(np.float32, copy=False)
    found = content_hash(frame, windows)
    if found != card["content_hash"]:
        raise InputError(
            f"{TABLE_FILE} and {WINDOWS_FILE} in {folder} have content hash {found[:12]}",
            limit=f"{card['content_hash'][:12]} as the card says",
            remedy=remedy,
        )
    return Dataset(frame, card, windows)


def content_hash(frame: pd.DataFrame, windows: NDArray[np.float32]) -> str:
    """SHA-256 over the schema version and every value, column by column, then the windows."""
    digest = hashlib.sha256(SCHEMA_VERSION.encode())
    for name in frame.columns:
        digest.update(f"\x1e{name}\x1f".encode())
        if name in _TEXTS:
            digest.update("\x1f".join(frame[name].tolist()).encode())
        elif name in ("decision_time", "exit_time"):
            digest.update(_nanoseconds(frame[name]).astype("<i8").tobytes())
        else:
            digest.update(canonical_floats(frame[name].to_numpy(np.float64)))
    digest.update(f"\x1ewindows {windows.shape}\x1f".encode())
    # Adding zero leaves one of the two zeros.
    digest.update(np.ascontiguousarray(windows + np.float32(0.0), dtype="<f4").data)
    return digest.hexdigest()


class _DamagedError(Exception):
    """A file is not what its name says."""


def _read_windows(path: Path) -> NDArray[Any]:
    try:
        content = np.load(path, allow_pickle=False)
    except _DAMAGED as error:
        raise _DamagedError(f"{path.name}: {error}") from None
    if not isinstance(content, np.ndarray):
        raise _DamagedError(f"{path.name} is an archive, not an array")
    return content


_DAMAGED = (ValueError, EOFError, SyntaxError, TokenError, OverflowError, MemoryError, zipfile.BadZipFile)
"""What NumPy raises on a damaged .npy file, depending on the byte."""


def _windows_shape(rows: int) -> tuple[int, int, int]:
    return rows, WINDOW_BARS, len(CHANNELS)


def _finite_windows(windows: NDArray[np.floating[Any]], trades: Trades) -> NDArray[np.float32]:
    wanted = _windows_shape(len(trades))
    if windows.shape != wanted:
        raise ValueError(f"windows {windows.shape} must be {wanted}")
    with np.errstate(over="ignore"):
        narrow = windows.astype(np.float32)
    bad = np.argwhere(~np.isfinite(narrow))
    if len(bad):
        row, bar, channel = (int(position) for position in bad[0])
        raise ContractError(
            f"window of trade {trades.signals.frame['trade_id'].iloc[row]}: {CHANNELS[channel]} of bar {bar} is "
            f"{windows[row, bar, channel]}; {len(bad)} value(s) are not finite",
            limit="finite float32 numbers",
            remedy="compute the windows with pipelines.features.window.compute_windows",
        )
    return narrow


def _keys(trades: Trades) -> pd.DataFrame:
    signals = trades.signals.frame
    return pd.DataFrame(
        {
            "trade_id": signals["trade_id"],
            "decision_time": signals["decision_time"],
            "exit_time": trades.outcomes.frame["exit_time"],
            "symbol": signals["symbol"],
            "data_source": signals["data_source"],
            "side": np.where((signals["battle_navale.direction"] == "LONG").to_numpy(bool), 1.0, -1.0),
            "confidence": signals["battle_navale.confidence"].to_numpy(np.float64),
        },
        columns=list(_KEYS),
    )


def _targets(trades: Trades, settings: Settings) -> Floats:
    return target_stage.compute(trades, settings.targets).to_numpy(np.float64)


def _prefixed(prefix: str, values: Floats, names: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(values, columns=[f"{prefix}.{name}" for name in names])


def _card(frame: pd.DataFrame, windows: NDArray[np.float32], trades: Trades, settings: Settings, code_version: str) -> dict[str, Any]:
    empty = frame.empty
    return {
        "schema_version": SCHEMA_VERSION,
        "feature_version": FEATURE_VERSION,
        "window_version": WINDOW_VERSION,
        "content_hash": content_hash(frame, windows),
        "inputs_hash": trades.content_hash(),
        "parameters_hash": settings.fingerprint("features", "targets", "instrument"),
        "code_version": code_version,
        "rows": len(frame),
        "first_decision": None if empty else frame["decision_time"].iloc[0].isoformat(),
        "last_decision": None if empty else frame["decision_time"].iloc[-1].isoformat(),
        "last_exit": None if empty else frame["exit_time"].max().isoformat(),
        "sources": _counts(frame["data_source"]),
        "symbols": _counts(frame["symbol"]),
        "features": list(FEATURES),
        "window_channels": list(CHANNELS),
        "missing_share": {name: _share(frame[f"feature.{name}"].isna()) for name in FEATURES},
        "positive_share": {name: _share(frame[f"target.{name}"] == 1.0) for name in BINARY_TARGETS},
    }


def _counts(column: pd.Series) -> dict[str, int]:
    return {str(value): int(count) for value, count in column.value_counts().sort_index().items()}


def _share(mask: pd.Series) -> float | None:
    return float(mask.mean()) if len(mask) else None


def _nanoseconds(times: pd.Series) -> NDArray[np.int64]:
    try:
        return times.astype(_TIME).astype("datetime64[ns, UTC]").astype("int64").to_numpy(np.int64)
    except pd.errors.OutOfBoundsDatetime as error:
        raise ContractError(
            f"{times.name}: {error}",
            limit=f"years {EARLIEST.year} to {LATEST.year}",
            remedy="take the record out of the store: move the store away and ingest all sources again",
        ) from None
