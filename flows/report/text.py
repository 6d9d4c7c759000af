"""Numbers, facts and tables of the report as text: right digits, units, one word for missing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

_SHARES = ("_share", "_rate", "share_positive", "win_rate", "missing", "duplicates")
_DIGEST = re.compile(r"[0-9a-f]{40,}")
_ABBREVIATIONS = {
    "pnl": "PnL",
    "usd": "USD",
    "vix": "VIX",
    "es": "ES",
    "r": "R",
    "id": "id",
    "auc": "AUC",
    "oi": "open interest",
    "sha256": "SHA-256",
    "nq": "NQ",
    "lstm": "LSTM",
    "xgboost": "XGBoost",
    "onnx": "ONNX",
    "roc": "ROC",
    "pr": "PR",
    "shap": "SHAP",
}
_LABELS = {
    "ambiguous": "stop and target in one bar (stop assumed)",
    "ambiguous_share": "share of these",
    "scale": "distances in",
    "skipped": "candidates skipped",
    "exits": "exits by reason",
    "median_bars": "median bars in trade",
    "with_options": "signals with fresh options",
    "with_vix": "signals with VIX",
    "with_nq": "signals with NQ",
}
"""Keys that would say too little as words."""


@dataclass(frozen=True)
class Cell:
    """One table cell: its text, whether it is a number (right-aligned), and pass/fail when it is a decision."""

    text: str
    numeric: bool = False
    passed: bool | None = None


@dataclass(frozen=True)
class Table:
    """A plain table: head and rows of the same length."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def number(value: object) -> str:
    """Write a number: thousands apart from 10,000, three decimals below 10, whole numbers whole."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return MISSING if value is None else str(value)
    if not math.isfinite(value):
        return MISSING
    size = abs(value)
    if isinstance(value, int) or (value.is_integer() and size > 1):
        text = f"{size:,.0f}" if size >= 10_000 else f"{size:.0f}"
    elif size >= 1000:
        text = f"{size:,.0f}"
    else:
        text = f"{size:.1f}" if size >= 100 else f"{size:.2f}" if size >= 10 else f"{size:.3f}"
        if size and float(text) == 0.0:
            text = f"{size:.2g}"
    return signed(value, text)


def percent(share: float | None) -> str:
    """Write a share as percent with one decimal."""
    if share is None or not math.isfinite(share):
        return MISSING
    return signed(share, f"{abs(share) * 100:.1f} %")


def change(share: float | None) -> str:
    """Write a relative change as signed whole percent."""
    if share is None or not math.isfinite(share):
        return MISSING
    return f"{MINUS if share < 0 else '+'}{abs(share) * 100:.0f}\N{NO-BREAK SPACE}%"


def score(value: float) -> str:
    """Write a score with three decimals, so that a column of them lines up."""
    return signed(round(value, 3), f"{abs(value):.3f}") if math.isfinite(value) else MISSING


def usd(value: float | None) -> str:
    """Write whole dollars."""
    if value is None or not math.isfinite(value):
        return MISSING
    return signed(round(value), f"${abs(round(value)):,}")


def signed(value: float, text: str) -> str:
    """Put a typographic minus before the text of a negative value."""
    return MINUS + text if value < 0 else text


def words(key: str) -> str:
    """Turn `snake_case` into words, with the usual capitals."""
    if key in _LABELS:
        return _LABELS[key]
    parts = str(key).replace("_", " ").split(" ")
    return " ".join(_ABBREVIATIONS.get(part, part) for part in parts)


def plain(key: str, value: object) -> str:
    """Write a fact's value: shares as percent, maps and lists in one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        inner_key = key if str(key).endswith(_SHARES) else ""
        return " · ".join(f"{words(name)}: {plain(inner_key or str(name), inner)}" for name, inner in value.items()) or MISSING
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(key, inner) for inner in value) or MISSING
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"{value[:12]}\N{HORIZONTAL ELLIPSIS}"
    if isinstance(value, float) and str(key).endswith(_SHARES) and abs(value) <= 1.0:
        return percent(value)
    return number(value)


def facts(values: Mapping[str, Any] | None, leave_out: Iterable[str] = ()) -> list[tuple[str, str]]:
    """List a map as (label, text) pairs in its own order."""
    skipped = set(leave_out)
    return [(words(key), plain(key, value)) for key, value in (values or {}).items() if key not in skipped]


def table(rows: Iterable[Mapping[str, Any]]) -> Table | None:
    """Lay out records as a table; columns in order of first appearance, None when there are no rows."""
    records = list(rows)
    keys = list(dict.fromkeys(key for record in records for key in record))
    if not keys:
        return None
    return Table(tuple(words(key) for key in keys), tuple(tuple(_cell(key, record.get(key)) for key in keys) for record in records))


def _cell(key: str, value: object) -> Cell:
    if isinstance(value, bool):
        return Cell("pass" if value else "fail", passed=value) if key in ("passed", "ok") else Cell("yes" if value else "no")
    return Cell(plain(key, value), numeric=isinstance(value, (int, float)))
