"""Small worlds for the LSTM: twelve features and a window of four channels, with and without something to find."""

from __future__ import annotations

import numpy as np

from models import lstm
from models.results import Kind
from pipelines.contracts.base import WINDOW_BARS
from pipelines.settings import load_settings

CHANNELS = 4
SETTINGS = load_settings().train.lstm
Estimator = lstm.LstmClassifier | lstm.LstmRegressor


def make(kind: Kind = "classification", **changes: object) -> Estimator:
    """An unfitted estimator with the settings of `params.yaml` but for `changes`."""
    names = {"clip_quantile": 0.01, "channels": CHANNELS, "seed": 7, "embargo_ns": 0}
    own = {name: value for name, value in changes.items() if name not in names}
    return lstm.build(kind, SETTINGS.model_copy(update=own), **{**names, **{name: changes[name] for name in names if name in changes}})


def noise(rows: int, seed: int) -> np.ndarray:
    """Rows without meaning; a tenth of the features is missing."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1.0, 1.0, (rows, 12))
    features[rng.random(features.shape) < 0.1] = np.nan
    return np.hstack([features, rng.normal(2.0, 3.0, (rows, WINDOW_BARS * CHANNELS))])


def bends(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows that first rise and then fall (label 1), or the same bars in the opposite order of halves (label 0).

    Every single bar value has the same distribution over both labels once the order of the bars is lost.
    """
    rng = np.random.default_rng(seed)
    inputs = noise(rows, seed + 1000)
    label = rng.integers(0, 2, rows).astype(float)
    rise = np.linspace(-1.0, 1.0, WINDOW_BARS // 2)
    up_down = np.concatenate([rise, rise[::-1]])
    shape = np.where(label[:, np.newaxis] == 1.0, up_down, np.roll(up_down, WINDOW_BARS // 2))
    window = inputs[:, 12:].reshape(rows, WINDOW_BARS, CHANNELS)
    window[:, :, 1] += 3.0 * shape
    return inputs, label


def feed(inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The rows as the ONNX file takes them."""
    with np.errstate(over="ignore"):
        single = np.asarray(inputs).astype(np.float32)
    return {"features": single[:, :12], "window": single[:, 12:].reshape(len(single), WINDOW_BARS, -1)}
