"""Where a run takes its trades from: the bot's snapshots, recorded bars, or the synthetic market."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.errors import InputError
from pipelines.layout import DataLayout

BAR_NAMES = tuple(f"{symbol}_{minutes}m.{ending}" for symbol in ("es",) for minutes in (5, 1) for ending in ("parquet", "csv"))
"""Files whose presence makes a folder one of bars."""

_MARKET_PREFIXES = ("es_", "nq_", "vix_", "option_chains_")


@dataclass(frozen=True)
class Source:
    """Where the trades come from.

    Attributes
    ----------
    kind
        snapshots: records of the bot; bars: replay of recorded bars; synthetic: replay of a seeded market.
    folder
        The folder that is read; None for the synthetic market.
    text
        The choice in words, for people.
    """

    kind: Literal["snapshots", "bars", "synthetic"]
    folder: Path | None
    text: str


def choose_source(layout: DataLayout, bars: Path | None = None, *, synthetic: bool = False) -> Source:
    """Choose what to read.

    Parameters
    ----------
    layout
        The data folder; its `raw` folder is looked at when nothing is named.
    bars
        A folder with es_5m.parquet (and nq_5m, vix_1d, option_chains_*), when the user names one.
    synthetic
        Use the synthetic market whatever lies in `raw`.

    Raises
    ------
    InputError
        The named folder does not exist or holds no ES bars.
    """
    if bars is not None:
        if not bars.is_dir():
            raise InputError(f"{bars} is not a folder", limit=f"a folder with one of {', '.join(BAR_NAMES)}")
        if not _holds_bars(bars):
            raise InputError(f"{bars} holds no ES bars", limit=f"one of {', '.join(BAR_NAMES)}", remedy="name another folder with --bars")
        return Source("bars", bars, f"bars of {bars}")
    if synthetic:
        return Source("synthetic", None, "the synthetic market (asked for)")
    if _holds_snapshots(layout):
        beside = "; the bars beside them are not read" if _holds_bars(layout.raw) else ""
        return Source("snapshots", layout.raw, f"snapshots of {layout.raw} and the store{beside}")
    if _holds_bars(layout.raw):
        return Source("bars", layout.raw, f"bars of {layout.raw}")
    return Source("synthetic", None, f"the synthetic market ({layout.raw} holds neither snapshots nor bars)")


def snapshot_files(folder: Path) -> list[Path]:
    """List the files of a folder (recursively) that can hold snapshots, sorted."""
    if not folder.is_dir():
        return []
    files = (path for ending in ("*.jsonl", "*.parquet") for path in folder.rglob(ending))
    return sorted(path for path in files if not path.name.startswith((*_MARKET_PREFIXES, ".")))


def _holds_snapshots(layout: DataLayout) -> bool:
    return bool(snapshot_files(layout.raw)) or (layout.snapshots / "signals.parquet").exists()


def _holds_bars(folder: Path) -> bool:
    return any((folder / name).exists() for name in BAR_NAMES)
