"""Building one ONNX graph out of converted models and a few nodes of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

OPSET = {"": 18, "ai.onnx.ml": 3}
"""Operator sets: fixed, so that a newer converter writes what an older runtime can still read."""

IR_VERSION = 8
"""Of the file format; the one that belongs to these operator sets."""


class GraphBuilder:
    """Collects nodes; the same calls give the same bytes.

    Parameters
    ----------
    inputs
        Name and shape without the row axis of every float32 input: {"features": (12,)}.
    """

    def __init__(self, inputs: Mapping[str, tuple[int, ...]]) -> None:
        self.inputs = dict(inputs)
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._count = 0

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; returns the name of the output."""
        output = self._name(kind.lower())
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, values: NDArray[Any]) -> str:
        """Keep an array; float64 becomes float32."""
        name = self._name("constant")
        kept = values.astype(np.float32) if values.dtype == np.float64 else values
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(kept), name))
        return name

    def embed(self, model: onnx.ModelProto) -> list[str]:
        """Take over another model's nodes, fed from the inputs of the same names; returns its outputs."""
        prefix = f"{self._name('part')}_"
        part = compose.add_prefix(model, prefix).graph
        for item in part.input:
            source = item.name.removeprefix(prefix)
            if source not in self.inputs:
                raise ValueError(f"the embedded model wants an input {source!r}; there are {', '.join(self.inputs)}")
            self._nodes.append(helper.make_node("Identity", [source], [item.name], name=f"{item.name}_in"))
        self._nodes.extend(part.node)
        self._initializers.extend(part.initializer)
        return [item.name for item in part.output]

    def build(self, outputs: Mapping[str, str]) -> bytes:
        """Close the graph; every output is float32 of shape (rows, 1).

        Parameters
        ----------
        outputs
            Name of the output to the name of the tensor.
        """
        closing = [helper.make_node("Identity", [tensor], [name], name=f"{name}_out") for name, tensor in outputs.items()]
        graph = helper.make_graph(
            [*self._nodes, *closing],
            "amiral",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, *shape]) for name, shape in self.inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in outputs],
            initializer=self._initializers,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSET.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="amiral")
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"
