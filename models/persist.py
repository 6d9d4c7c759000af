"""Evaluations and verdicts as JSON files, so that training, gates and registry can be separate stages."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from models.results import Evaluation, GateResult, Verdict
from pipelines.storage import write_text

_INTEGER_ARRAYS = ("oof_rows", "test_rows")
_FLOAT_ARRAYS = ("oof_predictions", "test_predictions", "train_quantiles")
_TUPLES = ("fold_scores", "fold_train_scores")


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write one evaluation; floats keep all their digits, NaN becomes null."""
    content = {item.name: _plain(getattr(evaluation, item.name)) for item in fields(evaluation)}
    write_json(path, content)


def read_evaluation(path: Path) -> Evaluation:
    """Read what `write_evaluation` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in _INTEGER_ARRAYS:
        content[name] = np.array(content[name], dtype=np.int64)
    for name in _FLOAT_ARRAYS:
        content[name] = np.array([np.nan if value is None else value for value in content[name]], dtype=np.float64)
    for name in _TUPLES:
        content[name] = tuple(_number(value) for value in content[name])
    for name in ("metrics", "baselines", "coefficients"):
        content[name] = {key: _number(value) for key, value in content[name].items()}
    for name in ("train_score", "validation_score", "test_score"):
        content[name] = _number(content[name])
    return Evaluation(**content)


def write_verdicts(verdicts: list[Verdict], path: Path) -> None:
    """Write the verdicts with every gate, its value, limit, reason and evidence."""
    content = [{**asdict(verdict), "candidate": verdict.candidate} for verdict in verdicts]
    write_json(path, _plain(content))


def read_verdicts(path: Path) -> list[Verdict]:
    """Read what `write_verdicts` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [Verdict(item["target"], item["family"], tuple(GateResult(**gate) for gate in item["gates"])) for item in content]


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys, atomically; the same content gives the same bytes."""
    write_text(path, json.dumps(_plain(content), sort_keys=True, indent=1, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case np.ndarray():
            return _plain(value.tolist())
        case np.generic():
            return _plain(value.item())
        case float() if not np.isfinite(value):
            return None
    return value


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
