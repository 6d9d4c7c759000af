"""Whether the ONNX file scores as the trained pipeline does: what is served must be what was judged."""

from __future__ import annotations

from models.results import GateResult
from pipelines.settings import Registry


def onnx_parity(parity: float | None, settings: Registry) -> GateResult:
    """Hold the largest difference between ONNX and Python scores against `registry.max_parity`; None fails."""
    if parity is None:
        return GateResult("onnx_parity", False, None, f"<= {settings.max_parity:g}", "ONNX and Python scores could not be compared")
    passed = bool(parity <= settings.max_parity)
    relation = "within" if passed else "above"
    reason = f"ONNX and Python scores differ by at most {parity:.2g}, {relation} {settings.max_parity:g}"
    return GateResult("onnx_parity", passed, parity, f"<= {settings.max_parity:g}", reason)
