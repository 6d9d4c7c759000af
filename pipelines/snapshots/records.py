"""One JSON text, one record: a signal, an outcome, or both of one trade."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from pipelines.contracts.outcome import Outcome, TradeSnapshot
from pipelines.contracts.signal import Signal

Record = Signal | Outcome | TradeSnapshot

KINDS: dict[str, type[Signal] | type[Outcome]] = {"decision": Signal, "final_result": Outcome}
"""`snapshot_type` of a record and its contract."""

_WHOLE = re.compile(rb'\s*\{\s*"(?:signal|outcome)"\s*:')
_TYPE = re.compile(rb'"snapshot_type"\s*:\s*"(decision|final_result)"')


class RecordError(ValueError):
    """A text is no valid record; the message is the reason for the quarantine."""


def parse(line: bytes, max_reason_chars: int) -> Record:
    """Read and validate one record.

    Parameters
    ----------
    line
        One JSON object: a signal (`snapshot_type` decision), an outcome (final_result), or
        `{"signal": ..., "outcome": ...}`.
    max_reason_chars
        Length at which the reason is cut.

    Raises
    ------
    RecordError
        Not JSON, of no known type, or against its contract: with key path, value and limit.
    """
    guess = _guess(line)
    if guess is not None:
        try:
            return guess.model_validate_json(line)
        except ValidationError as error:
            problem = error
    # Here come bad lines only, and good ones whose type cannot be told from their beginning.
    model = _model_of(_object_of(line, max_reason_chars), max_reason_chars)
    if model is not guess:
        try:
            return model.model_validate_json(line)
        except ValidationError as error:
            problem = error
    raise RecordError(describe(problem, max_reason_chars)) from None


def is_whole(line: bytes) -> bool:
    """Tell whether a text without an end of line is a complete JSON object (so, not still being written)."""
    try:
        return isinstance(from_json(line), dict)
    except ValueError:
        return False


def describe(error: ValidationError, max_chars: int) -> str:
    """Say in one line what is wrong: key path, value, limit."""
    problems = error.errors(include_url=False)
    first: Any = problems[0]
    path = ".".join(str(part) for part in first["loc"])
    rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    match first["type"]:
        case "value_error":
            text = f"{path}: {first['ctx']['error']}" if path else str(first["ctx"]["error"])
        case "missing":
            text = f"{path}: missing"
        case "extra_forbidden":
            text = f"{path}: unknown field, value {_short(first['input'])}"
        case _:
            text = f"{path} = {_short(first['input'])}: {first['msg']}"
    return _cut(text, max_chars - len(rest)) + rest


def _guess(line: bytes) -> type[Record] | None:
    """Tell the contract from the text; validation against it finds a wrong guess out."""
    if _WHOLE.match(line):
        return TradeSnapshot
    found = _TYPE.search(line)
    return KINDS[found[1].decode()] if found else None


def _object_of(line: bytes, max_chars: int) -> dict[str, Any]:
    try:
        content = from_json(line)
    except ValueError as error:
        raise RecordError(_cut(f"not JSON: {error}", max_chars)) from None
    if not isinstance(content, dict):
        raise RecordError(f"a JSON {type(content).__name__}; expected an object")
    return content


def _model_of(content: dict[str, Any], max_chars: int) -> type[Record]:
    if "signal" in content or "outcome" in content:
        return TradeSnapshot
    stated = content.get("snapshot_type")
    if stated is None:
        raise RecordError('snapshot_type: missing; expected decision, final_result, or {"signal": ..., "outcome": ...}')
    if not isinstance(stated, str) or stated not in KINDS:
        raise RecordError(_cut(f"snapshot_type = {_short(stated)}: expected {' or '.join(KINDS)}", max_chars))
    return KINDS[stated]


def _short(value: object) -> str:
    return _cut(repr(value), 80)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
