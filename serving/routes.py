"""The HTTP side: a body in, an answer or a clear refusal out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pipelines.contracts.base import SCHEMA_VERSION
from pipelines.contracts.signal import Signal
from pipelines.settings import Serving
from serving.deployment import LiveDeployment
from serving.scorer import score_signal

VALUE_CHARS = 80
"""Characters of a refused value that the answer repeats."""


@dataclass(frozen=True)
class Front:
    """What a request needs: the settings and the model in force."""

    settings: Serving
    live: LiveDeployment


async def score(request: Request) -> Response:
    """POST /v1/score: a `Signal` as JSON.

    Answers 200 with the fields of `Answer`; 400 when the body is not JSON, 413 when it is too
    large, 422 when it does not fit the contract. A fault of the service itself is a 200 with
    `degraded: true`.
    """
    front: Front = request.app.state.front
    limit = front.settings.max_body_bytes
    try:
        body = await _read(request, limit)
    except ClientDisconnect:
        return _refuse(400, "the connection closed before the body was complete")
    if body is None:
        return _refuse(413, f"the body is larger than {limit} bytes", limit=f"{limit} bytes (serving.max_body_bytes)")
    try:
        signal = Signal.model_validate_json(body)
    except ValidationError as error:
        return _explain(error, front.settings.max_problems)
    except (OverflowError, RecursionError) as error:
        return _refuse(422, f"a value is out of range: {error}", limit=f"the Signal contract {SCHEMA_VERSION}")
    view = front.live.view
    return _json(200, score_signal(signal, view.deployment, front.settings.required_features, view.absence))


ROUTES = (Route("/v1/score", score, methods=["POST"]),)


async def _read(request: Request, limit: int) -> bytes | None:
    """Read the body; None when it is larger than the limit, without keeping more than that."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def _explain(error: ValidationError, most: int) -> Response:
    found = error.errors(include_url=False, include_context=False)
    if found[0]["type"] == "json_invalid":
        return _refuse(400, found[0]["msg"], limit="one JSON object: a Signal")
    problems = [_problem(item) for item in found[:most]]
    return _refuse(
        422,
        "the signal does not fit its contract",
        limit=f"the Signal contract {SCHEMA_VERSION}",
        problems=problems,
        problem_count=len(found),
    )


def _problem(item: Any) -> dict[str, str]:
    path = ".".join(str(part) for part in item["loc"]) or "(whole record)"
    return {"path": _short(path), "value": _value(item), "limit": str(item["msg"]).removeprefix("Value error, ")}


def _value(item: Any) -> str:
    if item["type"] == "missing":
        return "absent"
    value = item["input"]
    if isinstance(value, dict):
        return f"object with {len(value)} keys"
    if isinstance(value, (list, tuple)):
        return f"list of {len(value)}"
    return _short(repr(value))


def _short(text: str) -> str:
    return text if len(text) <= VALUE_CHARS else f"{text[:VALUE_CHARS]}\N{HORIZONTAL ELLIPSIS} ({len(text)} characters)"


def _refuse(status: int, message: str, **details: Any) -> Response:
    return _json(status, {"error": message, **details})


def _json(status: int, content: Any) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
