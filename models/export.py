"""A trained pipeline becomes an artifact: ONNX bytes and a JSON card (see `models.artifact`)."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.pipeline import Pipeline

from models.artifact import INPUT, Card, OnnxScorer, Package, open_session, run_session
from models.linear import ClipAndFill, predict
from models.results import Kind
from models.training import TrainedModel
from pipelines.dataset import Dataset
from pipelines.features.twelve import FEATURE_VERSION, FEATURES
from pipelines.settings import Settings

Floats = NDArray[np.float64]

__all__ = ["Card", "OnnxScorer", "Package", "package", "parity", "to_onnx", "training_fingerprint"]

OPSET = {"": 18, "ai.onnx.ml": 3}
"""Operator sets: fixed, so that a newer converter writes what an older runtime can still read."""

_ALIAS = "AmiralClipAndFill"
_VERSIONED = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


def package(trained: TrainedModel, dataset: Dataset, settings: Settings, *, git_commit: str) -> Package:
    """Convert a trained model, describe it, and compare the two ways to score."""
    kind = trained.evaluation.kind
    onnx = to_onnx(trained.pipeline, kind)
    probes = np.vstack([dataset.features, np.full((1, len(FEATURES)), np.nan)])
    return Package(onnx, _card(trained, dataset, settings, git_commit), parity(trained.pipeline, kind, onnx, probes))


def to_onnx(pipeline: Pipeline, kind: Kind) -> bytes:
    """Convert a fitted pipeline; the same pipeline gives the same bytes.

    The graph takes one float32 tensor "features" (n, 12) with NaN for missing, and holds
    clipping, filling, scaling and the model.
    """
    _register_converters()
    # Without zipmap the probabilities come as a tensor instead of a list of maps.
    options = {id(pipeline): {"zipmap": False}} if kind == "classification" else None
    inputs = [(INPUT, FloatTensorType([None, len(FEATURES)]))]
    # The default graph name is a random one.
    model = convert_sklearn(pipeline, "amiral", inputs, target_opset=OPSET, options=options)
    # The converter collects the operator sets in a Python set, whose order changes from process to process.
    operator_sets = sorted(((item.domain, item.version) for item in model.opset_import), reverse=True)
    for item, (domain, version) in zip(model.opset_import, operator_sets, strict=True):
        item.domain, item.version = domain, version
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def parity(pipeline: Pipeline, kind: Kind, onnx: bytes, features: Floats) -> float:
    """Largest absolute difference between ONNX and Python scores; infinite when one of them is not a number."""
    difference = np.abs(run_session(open_session(onnx), _output(kind), features) - predict(pipeline, kind, features))
    return float(difference.max(initial=0.0)) if np.isfinite(difference).all() else float("inf")


def _card(trained: TrainedModel, dataset: Dataset, settings: Settings, git_commit: str) -> Card:
    evaluation = trained.evaluation
    fill = trained.pipeline.named_steps["fill"]
    return Card(
        target=evaluation.target,
        family=evaluation.family,
        kind=evaluation.kind,
        features=list(FEATURES),
        feature_version=FEATURE_VERSION,
        feature_settings=settings.features.model_dump(mode="json"),
        dtype="float32",
        output=_output(evaluation.kind),
        neutral=dict(zip(FEATURES, fill.median_.tolist(), strict=True)),
        quantiles=_feature_quantiles(dataset.features[evaluation.train_rows], len(evaluation.train_quantiles)),
        score_quantiles=evaluation.train_quantiles.tolist(),
        dataset_hash=dataset.content_hash,
        parameters_hash=training_fingerprint(settings),
        git_commit=git_commit,
        data_sources=dict(dataset.card["sources"]),
        versions={name: importlib.metadata.version(name) for name in _VERSIONED},
    )


def training_fingerprint(settings: Settings) -> str:
    """SHA-256 of the settings that decide how a model is trained and judged."""
    return settings.fingerprint("seed", "features", "targets", "splits", "linear", "gates", "policy")


def _feature_quantiles(features: Floats, count: int) -> dict[str, list[float]]:
    shares = np.linspace(0.0, 1.0, count)
    present = (column[~np.isnan(column)] for column in features.T)
    return {name: np.quantile(values, shares).tolist() if len(values) else [] for name, values in zip(FEATURES, present, strict=True)}


def _output(kind: Kind) -> str:
    return "probabilities" if kind == "classification" else "variable"


def _register_converters() -> None:
    update_registered_converter(ClipAndFill, _ALIAS, _clip_and_fill_shape, _convert_clip_and_fill, parser=_parse_clip_and_fill)


def _parse_clip_and_fill(scope: Any, model: ClipAndFill, inputs: list[Any], custom_parsers: Any = None) -> list[Any]:  # noqa: ARG001
    """Declare the output with its width; the column selection of the next step asks for it before shapes are inferred."""
    operator = scope.declare_local_operator(_ALIAS, model)
    operator.inputs.extend(inputs)
    operator.outputs.append(scope.declare_local_variable("filled", FloatTensorType([None, 2 * model.n_features_in_])))
    outputs: list[Any] = operator.outputs
    return outputs


def _clip_and_fill_shape(operator: Any) -> None:
    rows, columns = operator.inputs[0].type.shape
    operator.outputs[0].type = FloatTensorType([rows, 2 * columns])


def _convert_clip_and_fill(scope: Any, operator: Any, container: Any) -> None:
    """Write ClipAndFill as ONNX: Concat(Min(Max(Where(IsNaN(x), median, x), lower), upper), IsNaN(x))."""
    fill: ClipAndFill = operator.raw_operator
    width = fill.n_features_in_
    source = operator.inputs[0].full_name

    def name(suffix: str) -> str:
        return str(scope.get_unique_variable_name(f"fill_{suffix}"))

    def constant(suffix: str, values: Floats) -> str:
        label = name(suffix)
        container.add_initializer(label, 1, [1, width], values.astype(np.float32))
        return label

    def node(kind: str, inputs: list[str], output: str, version: int, **attributes: Any) -> str:
        container.add_node(kind, inputs, output, op_version=version, name=scope.get_unique_operator_name(kind), **attributes)
        return output

    missing = node("IsNaN", [source], name("missing"), 13)
    filled = node("Where", [missing, constant("median", fill.median_), source], name("filled"), 16)
    raised = node("Max", [filled, constant("lower", fill.lower_)], name("raised"), 13)
    clipped = node("Min", [raised, constant("upper", fill.upper_)], name("clipped"), 13)
    flags = node("Cast", [missing], name("flags"), 13, to=1)
    node("Concat", [clipped, flags], operator.outputs[0].full_name, 13, axis=1)
