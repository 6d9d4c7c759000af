"""A model as it is kept and served: ONNX bytes and a JSON card, and the scorer that runs them.

Nothing here needs scikit-learn, and nothing is unpickled, so the service starts fast and safe.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from models.results import Kind
from pipelines.contracts.base import WINDOW_BARS
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURE_VERSION, FEATURES
from pipelines.features.window import CHANNELS, WINDOW_VERSION
from pipelines.telemetry import TELEMETRY_OFF

# ONNX Runtime reports home from its import on, unless this is set before.
os.environ.update(TELEMETRY_OFF)
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

Floats = NDArray[np.float64]

FEATURES_INPUT, WINDOW_INPUT, SCORE = "features", "window", "score"
"""Names of the tensors of every ONNX file."""

_UNLOADABLE = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
"""What a damaged or foreign file makes ONNX Runtime raise."""


class Card(BaseModel):
    """What a model expects and where it came from.

    Attributes
    ----------
    target, family, kind
        What the score means.
    features
        Names of the input columns, in order.
    feature_version, feature_settings
        Version of the formulas and section `features` of the settings: another version or other
        settings compute other features, which the model does not know.
    window_bars, window_channels, window_version
        The window of bars that a recurrent model takes as well; 0, empty and "" for the others.
    dtype
        Type of the input tensors; NaN marks a missing feature.
    output
        Name of the tensor that holds the score, shape (n, 1).
    parameters
        The family's settings that the model was fitted with.
    calibration
        How raw scores became probabilities; empty without a calibration.
    neutral
        Per feature, the training median that fills a missing value.
    quantiles
        Per feature, evenly spaced training quantiles of the present values; empty without any.
    score_quantiles
        The same of the training scores.
    dataset_hash, parameters_hash, git_commit, data_sources
        Origin.
    versions
        Of the libraries that wrote the ONNX file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    target: str
    family: str
    kind: Kind
    features: list[str]
    feature_version: str
    feature_settings: dict[str, Any]
    window_bars: int
    window_channels: list[str]
    window_version: str
    dtype: str
    output: str
    parameters: dict[str, Any]
    calibration: dict[str, Any]
    neutral: dict[str, float]
    quantiles: dict[str, list[float]]
    score_quantiles: list[float]
    dataset_hash: str
    parameters_hash: str
    git_commit: str
    data_sources: dict[str, int]
    versions: dict[str, str]

    def to_json(self) -> str:
        """Write JSON text with sorted keys."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; raises `InputError` for anything else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InputError(f"a model card cannot be read: {error}", remedy="train and register the model again") from None


@dataclass(frozen=True)
class Package:
    """A model ready to be registered.

    Attributes
    ----------
    onnx
        The ONNX file.
    card
        Its card.
    parity
        Largest difference between the ONNX scores and the Python scores, over the whole dataset
        and a row with every feature missing; for targets outside 0 to 1 in units of the labels'
        standard deviation.
    """

    onnx: bytes
    card: Card
    parity: float


class OnnxScorer:
    """Scores feature rows with ONNX Runtime, on one thread.

    Parameters
    ----------
    onnx
        The model file.
    card
        Its card.

    Attributes
    ----------
    windowed
        Whether `score` needs the window of bars as well.

    Raises
    ------
    InputError
        The model was trained on other features or windows, the file cannot be loaded, or it is
        not the one that the card describes.
    """

    def __init__(self, onnx: bytes, card: Card) -> None:
        if tuple(card.features) != FEATURES or card.feature_version != FEATURE_VERSION:
            first = next((pair for pair in zip(card.features, FEATURES, strict=False) if pair[0] != pair[1]), None)
            where = f"; the first that differs is {first[0]!r} in the place of {first[1]!r}" if first else ""
            raise InputError(
                f"the model knows {len(card.features)} features of version {card.feature_version}{where}",
                limit=f"the {len(FEATURES)} features of version {FEATURE_VERSION}, in this order: {', '.join(FEATURES)}",
                remedy="train the model again with this code",
            )
        self.windowed = card.window_bars > 0
        wanted = (WINDOW_BARS, CHANNELS, WINDOW_VERSION)
        if self.windowed and (card.window_bars, tuple(card.window_channels), card.window_version) != wanted:
            raise InputError(
                f"the model knows windows of {card.window_bars} bars with {', '.join(card.window_channels)}, version {card.window_version}",
                limit=f"{WINDOW_BARS} bars with {', '.join(CHANNELS)}, version {WINDOW_VERSION}",
                remedy="train the model again with this code",
            )
        self.card = card
        self._session = open_session(onnx)
        inputs = {item.name: tuple(item.shape[1:]) for item in self._session.get_inputs()}
        described: dict[str, tuple[int, ...]] = {FEATURES_INPUT: (len(FEATURES),)}
        if self.windowed:
            described[WINDOW_INPUT] = (WINDOW_BARS, len(CHANNELS))
        if inputs != described or card.output not in {item.name for item in self._session.get_outputs()}:
            raise InputError(
                f"the ONNX file takes {inputs}", limit=f"{described} as its card says", remedy="train and register the model again"
            )

    def score(self, features: Floats, windows: Floats | None = None) -> Floats:
        """Score rows.

        Parameters
        ----------
        features
            Shape (n, 12), NaN where missing.
        windows
            Shape (n, 32, channels); only a recurrent model takes it.

        Returns
        -------
        ndarray
            Shape (n,).

        Raises
        ------
        InputError
            A recurrent model is given no windows, or windows of another shape.
        """
        if not self.windowed:
            return run_session(self._session, self.card.output, features)
        wanted = (len(features), WINDOW_BARS, len(CHANNELS))
        if windows is None or windows.shape != wanted:
            raise InputError(
                f"the model is given windows of shape {None if windows is None else windows.shape}",
                limit=f"{wanted}: the {WINDOW_BARS} bars that every signal carries",
                remedy="send the signal with all its bars",
            )
        return run_session(self._session, self.card.output, features, windows)


def open_session(onnx: bytes) -> onnxruntime.InferenceSession:
    """Load an ONNX file on one thread; raises `InputError` when it cannot be loaded."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except _UNLOADABLE as error:
        raise InputError(
            f"the ONNX file of {len(onnx)} bytes cannot be loaded: {error}", remedy="train and register the model again"
        ) from None


def run_session(session: onnxruntime.InferenceSession, output: str, features: Floats, windows: Floats | None = None) -> Floats:
    """Score rows (n, 12), with windows (n, 32, channels) for a recurrent model; shape (n,)."""
    inputs = {FEATURES_INPUT: np.ascontiguousarray(features, dtype=np.float32)}
    if windows is not None:
        inputs[WINDOW_INPUT] = np.ascontiguousarray(windows, dtype=np.float32)
    return np.asarray(session.run([output], inputs)[0], dtype=np.float64)[:, -1]
