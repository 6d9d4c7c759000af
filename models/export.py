"""A trained model becomes an artifact: ONNX bytes and a JSON card (see `models.artifact`).

The graph holds everything between raw features and final score: clipping, filling, scaling, the
model, its calibration and, for the ensemble, the combination. Pipelines are converted by skl2onnx
and onnxmltools; calibration and combination are a few nodes of our own.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from skl2onnx import convert_sklearn, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.pipeline import Pipeline

from models.artifact import FEATURES_INPUT, SCORE, WINDOW_INPUT, Card, Package, open_session, run_session
from models.calibration import SMALLEST, Calibrator, Isotonic, Sigmoid, raw_scores
from models.ensemble import EnsembleFilter
from models.families import FAMILIES
from models.onnx_graph import OPSET, GraphBuilder
from models.preparation import ClipAndFill
from models.training import TrainedModel
from pipelines.contracts.base import WINDOW_BARS
from pipelines.dataset import Dataset
from pipelines.features.twelve import FEATURE_VERSION, FEATURES
from pipelines.features.window import CHANNELS, WINDOW_VERSION
from pipelines.settings import Settings

Floats = NDArray[np.float64]

_ALIAS = "AmiralClipAndFill"
_VERSIONED = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx", "onnxmltools", "torch")

WINDOW_SHAPE = (WINDOW_BARS, len(CHANNELS))


def package(trained: TrainedModel, dataset: Dataset, settings: Settings, *, git_commit: str) -> Package:
    """Convert a trained model, describe it, and compare the two ways to score over the whole dataset."""
    windowed = FAMILIES[trained.evaluation.family].windowed  # type: ignore[index]
    onnx_bytes = to_onnx(trained.estimator, windowed=windowed)
    matrix = dataset.matrix(windowed)
    blank = np.concatenate([np.full(len(FEATURES), np.nan), np.zeros(matrix.shape[1] - len(FEATURES))])
    found = parity(trained.estimator, onnx_bytes, np.vstack([matrix, blank]), scale=parity_scale(trained, dataset))
    return Package(onnx_bytes, _card(trained, dataset, settings, git_commit), found)


def to_onnx(estimator: Any, *, windowed: bool = False) -> bytes:
    """Convert a fitted estimator of any family; the same estimator gives the same bytes.

    The graph takes a float32 tensor "features" (n, 12) with NaN for missing and, when `windowed`, a
    float32 tensor "window" (n, 32, channels). Its output "score" (n, 1) is a probability or a value.
    An ensemble has the outputs "agreement" and "lowest" (n, 1) as well.
    """
    inputs: dict[str, tuple[int, ...]] = {FEATURES_INPUT: (len(FEATURES),)}
    if windowed:
        inputs[WINDOW_INPUT] = WINDOW_SHAPE
    graph = GraphBuilder(inputs)
    if isinstance(estimator, EnsembleFilter):
        return graph.build(_ensemble(graph, estimator))
    raw = _raw(graph, getattr(estimator, "estimator_", estimator))
    calibrator = getattr(estimator, "calibrator_", None)
    return graph.build({SCORE: raw if calibrator is None else _calibrate(graph, [raw], calibrator)})


def parity(estimator: Any, onnx_bytes: bytes, matrix: Floats, *, scale: float = 1.0) -> float:
    """Largest absolute difference between ONNX and Python scores, in units of `scale`.

    Parameters
    ----------
    estimator
        Fitted.
    onnx_bytes
        What `to_onnx` made of it.
    matrix
        Shape (n, 12), or (n, 12 + 32 * channels) with the flattened windows.
    scale
        See `parity_scale`.

    Returns
    -------
    float
        Infinite when a score is not a number.
    """
    session = open_session(onnx_bytes)
    count = len(FEATURES)
    windows = matrix[:, count:].reshape(-1, *WINDOW_SHAPE) if matrix.shape[1] > count else None
    difference = np.abs(run_session(session, SCORE, matrix[:, :count], windows) - raw_scores(estimator, matrix)) / scale
    return float(difference.max(initial=0.0)) if np.isfinite(difference).all() else float("inf")


def parity_scale(trained: TrainedModel, dataset: Dataset) -> float:
    """Unit of the parity: 1 for what lies between 0 and 1, else the training labels' standard deviation.

    float32 holds seven digits: dollars in the hundreds cannot agree within 1e-5 of a dollar, and a
    difference of a ten-millionth of their spread says the same of every target.
    """
    label = dataset.target(trained.evaluation.label)[trained.evaluation.train_rows]
    bounded = label.min() >= 0.0 and label.max() <= 1.0
    return 1.0 if bounded or np.ptp(label) == 0.0 else float(label.std())


def training_fingerprint(settings: Settings) -> str:
    """SHA-256 of the settings that decide how a model is trained and judged."""
    # How many fits run side by side, and which families are trained beside, change no model.
    same = settings.model_copy(update={"train": settings.train.model_copy(update={"workers": 1, "families": tuple(FAMILIES)})})
    return same.fingerprint("seed", "features", "targets", "splits", "weights", "ladder", "train", "calibration", "gates", "policy")


def _raw(graph: GraphBuilder, estimator: Any) -> str:
    """Embed a model without its calibration; gives the tensor (n, 1)."""
    if isinstance(estimator, Pipeline):
        outputs = graph.embed(_convert(estimator))
        if not hasattr(estimator, "predict_proba"):
            return outputs[-1]
        return graph.node("Gather", outputs[-1], graph.constant(np.array([1], dtype=np.int64)), axis=1)
    from models import lstm  # torch takes seconds to import

    return graph.embed(lstm.to_onnx(estimator))[0]


def _calibrate(graph: GraphBuilder, raw: list[str], calibrator: Calibrator) -> str:
    """Append a calibration of scores (n, 1); gives the tensor (n, 1)."""
    if isinstance(calibrator, Sigmoid):
        scores = graph.node("Concat", *raw, axis=1)
        low, high = graph.constant(np.array(SMALLEST)), graph.constant(np.array(1.0 - SMALLEST))
        kept = graph.node("Clip", scores, low, high)
        rest = graph.node("Sub", graph.constant(np.array(1.0)), kept)
        odds = graph.node("Sub", graph.node("Log", kept), graph.node("Log", rest))
        slopes = graph.constant(np.array(calibrator.slopes).reshape(-1, 1))
        return graph.node("Sigmoid", graph.node("Gemm", odds, slopes, graph.constant(np.array([calibrator.intercept]))))
    return _lines(graph, raw[0], calibrator)


def _lines(graph: GraphBuilder, raw: str, calibrator: Isotonic) -> str:
    """Straight lines as a sum of ramps: y0 + sum of slope * min(max(x - from, 0), width)."""
    points, values = np.array(calibrator.scores), np.array(calibrator.probabilities)
    if len(points) < 2:
        zero = graph.node("Mul", raw, graph.constant(np.array(0.0)))
        return graph.node("Add", zero, graph.constant(values[:1]))
    width = np.diff(points)
    beyond = graph.node("Sub", raw, graph.constant(points[np.newaxis, :-1]))
    ramps = graph.node("Min", graph.node("Max", beyond, graph.constant(np.array(0.0))), graph.constant(width[np.newaxis, :]))
    return graph.node("Gemm", ramps, graph.constant((np.diff(values) / width)[:, np.newaxis]), graph.constant(values[:1]))


def _ensemble(graph: GraphBuilder, estimator: EnsembleFilter) -> dict[str, str]:
    raw = {name: _raw(graph, member) for name, member in estimator.members_.items()}
    calibrated = [_calibrate(graph, [raw[name]], calibrator) for name, calibrator in estimator.calibrators_.items()]
    together = graph.node("Concat", *calibrated, axis=1)
    count = len(calibrated)
    if estimator.settings.combination == "stacking":
        score = _calibrate(graph, list(raw.values()), estimator.stacker_)
    else:
        weights = np.array([getattr(estimator.settings.weights, name) for name in raw])
        shares = weights / weights.sum() if estimator.settings.combination == "weighted" else np.full(count, 1.0 / count)
        score = graph.node("MatMul", together, graph.constant(shares[:, np.newaxis]))
    votes = graph.node("GreaterOrEqual", together, graph.constant(np.array(estimator.base_rate_)))
    yes = graph.node("MatMul", graph.node("Cast", votes, to=onnx.TensorProto.FLOAT), graph.constant(np.ones((count, 1))))
    # Pairs that agree: (yes * (yes - 1) + no * (no - 1)) / 2, with no = count - yes.
    no = graph.node("Sub", graph.constant(np.array(float(count))), yes)
    one = graph.constant(np.array(1.0))
    both = graph.node("Add", graph.node("Mul", yes, graph.node("Sub", yes, one)), graph.node("Mul", no, graph.node("Sub", no, one)))
    agreement = graph.node("Div", both, graph.constant(np.array(float(count * (count - 1)))))
    lowest = graph.node("ReduceMin", together, graph.constant(np.array([1], dtype=np.int64)), keepdims=1)
    return {SCORE: score, "agreement": agreement, "lowest": lowest}


def _convert(pipeline: Pipeline) -> onnx.ModelProto:
    """Convert a pipeline; "features" (n, 12) in, probabilities (n, 2) or values (n, 1) as the last output."""
    _register_converters()
    # Without zipmap the probabilities come as a tensor instead of a list of maps.
    options = {id(pipeline): {"zipmap": False}} if hasattr(pipeline, "predict_proba") else None
    inputs = [(FEATURES_INPUT, FloatTensorType([None, len(FEATURES)]))]
    # The default graph name is a random one.
    return convert_sklearn(pipeline, "amiral", inputs, target_opset=OPSET, options=options)


def _card(trained: TrainedModel, dataset: Dataset, settings: Settings, git_commit: str) -> Card:
    evaluation = trained.evaluation
    windowed = FAMILIES[evaluation.family].windowed  # type: ignore[index]
    rows = dataset.features[evaluation.train_rows]
    return Card(
        target=evaluation.target,
        family=evaluation.family,
        kind=evaluation.kind,
        features=list(FEATURES),
        feature_version=FEATURE_VERSION,
        feature_settings=settings.features.model_dump(mode="json"),
        window_bars=WINDOW_BARS if windowed else 0,
        window_channels=list(CHANNELS) if windowed else [],
        window_version=WINDOW_VERSION if windowed else "",
        dtype="float32",
        output=SCORE,
        parameters=evaluation.parameters,
        calibration=_describe(trained.estimator),
        neutral=dict(zip(FEATURES, ClipAndFill().fit(rows).median_.tolist(), strict=True)),
        quantiles=_feature_quantiles(rows, len(evaluation.train_quantiles)),
        score_quantiles=evaluation.train_quantiles.tolist(),
        dataset_hash=dataset.content_hash,
        parameters_hash=training_fingerprint(settings),
        git_commit=git_commit,
        data_sources=dict(dataset.card["sources"]),
        versions={name: importlib.metadata.version(name) for name in _VERSIONED} | {"xgboost": _xgboost_version()},
    )


def _describe(estimator: Any) -> dict[str, Any]:
    """The calibration as data; empty without one."""
    calibrator = estimator.stacker_ if isinstance(estimator, EnsembleFilter) else getattr(estimator, "calibrator_", None)
    if isinstance(calibrator, Sigmoid):
        return {"method": "sigmoid", "slopes": list(calibrator.slopes), "intercept": calibrator.intercept}
    if isinstance(calibrator, Isotonic):
        return {"method": "isotonic", "scores": list(calibrator.scores), "probabilities": list(calibrator.probabilities)}
    return {}


def _xgboost_version() -> str:
    # Two packages hold this module (xgboost, xgboost-cpu); either will do.
    import xgboost

    return str(xgboost.__version__)


def _feature_quantiles(features: Floats, count: int) -> dict[str, list[float]]:
    shares = np.linspace(0.0, 1.0, count)
    present = (column[~np.isnan(column)] for column in features.T)
    return {name: np.quantile(values, shares).tolist() if len(values) else [] for name, values in zip(FEATURES, present, strict=True)}


@cache
def _register_converters() -> None:
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes, calculate_linear_regressor_output_shapes
    from xgboost import XGBClassifier, XGBRegressor

    update_registered_converter(ClipAndFill, _ALIAS, _clip_and_fill_shape, _convert_clip_and_fill, parser=_parse_clip_and_fill)
    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(
        XGBClassifier, "XGBoostXGBClassifier", calculate_linear_classifier_output_shapes, convert_xgboost, options=options
    )
    update_registered_converter(XGBRegressor, "XGBoostXGBRegressor", calculate_linear_regressor_output_shapes, convert_xgboost)


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
