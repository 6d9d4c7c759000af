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
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURE_VERSION, FEATURES
from pipelines.telemetry import TELEMETRY_OFF

# ONNX Runtime reports home from its import on, unless this is set before.
os.environ.update(TELEMETRY_OFF)
import onnxruntime

Floats = NDArray[np.float64]

INPUT = "features"


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
    dtype
        Type of the input tensor; NaN marks a missing feature.
    output
        Name of the tensor that holds the score, shape (n, classes) or (n, 1); the last column counts.
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
    dtype: str
    output: str
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
        and over rows with every feature missing.
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

    Raises
    ------
    InputError
        The model was trained on other features, or the file cannot be loaded.
    """

    def __init__(self, onnx: bytes, card: Card) -> None:
        if tuple(card.features) != FEATURES or card.feature_version != FEATURE_VERSION:
            raise InputError(
                f"the model knows {len(card.features)} features of version {card.feature_version}",
                limit=f"the {len(FEATURES)} features of version {FEATURE_VERSION}, in this order: {', '.join(FEATURES)}",
                remedy="train the model again with this code",
            )
        self.card = card
        self._session = open_session(onnx)

    def score(self, features: Floats) -> Floats:
        """Score rows; `features` is (n, 12), NaN where missing; the result is (n,)."""
        return run_session(self._session, self.card.output, features)


def open_session(onnx: bytes) -> onnxruntime.InferenceSession:
    """Load an ONNX file on one thread; raises `InputError` when it cannot be loaded."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except (onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf, onnxruntime.capi.onnxruntime_pybind11_state.InvalidGraph) as error:
        raise InputError(f"the ONNX file cannot be loaded: {error}", remedy="train and register the model again") from None


def run_session(session: onnxruntime.InferenceSession, output: str, features: Floats) -> Floats:
    """Score rows (n, 12); the last column of the output counts; shape (n,)."""
    scores = session.run([output], {INPUT: np.ascontiguousarray(features, dtype=np.float32)})[0]
    return np.asarray(scores, dtype=np.float64)[:, -1]
