"""The LSTM family (DOMAIN E.1, level 3): the 32 bars before a signal, joined with its twelve features.

A recurrent layer reads the bars one after the other (Hochreiter and Schmidhuber 1997). Its last
hidden state and the prepared features go through one hidden layer to the score:

    state = last state of LSTM(hidden) over the window (32, C), standardised and clipped
    static = the features (12,), clipped, filled, standardised, and their missing flags
    score = Linear(1) of dropout of ReLU of Linear(head) of (state, static)

Training stops early on the last part of the given rows, purged by label intervals, and the weights
of the best pass are kept. Nothing here touches torch's global generator or its seed, and all sums
run on one thread, so that a fit gives the same bits alone and beside others. That holds for the
CPU; on a GPU cuDNN's sums have no fixed order, and two fits agree only to rounding.

torch is imported when a model is fitted or asked, not with this module: it takes seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from models.preparation import ClipAndFill
from models.results import Kind
from pipelines.contracts.base import WINDOW_BARS
from pipelines.errors import DataRefusedError, InputError
from pipelines.features.twelve import FEATURES
from pipelines.settings import Lstm

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Times = NDArray[np.int64]
Rows = NDArray[np.int64]
Weights: TypeAlias = "dict[str, torch.Tensor]"

WINDOW_LIMIT = 5.0
"""Standard deviations at which a window value is clipped."""

FLAG_SPREAD = 0.25
"""Standard deviation from which a missing flag stays 0 or 1: set, or not set, in one of fifteen rows."""

CHUNK = 4096
"""Rows that are scored at a time; bounds the memory, not the result."""

_RECURRENT = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_WIDTH = 2 * len(FEATURES)

_IMPORTING = threading.Lock()


@dataclass(frozen=True)
class Preparation:
    """What happens to a row before the network sees it, learnt from the training rows, in float32.

    A rare missing flag is made small: Adam's steps do not depend on how often an input is set, and a
    flag that three of a thousand rows had would otherwise move a score like a common one. An input
    that never varied is held at 0.

    Attributes
    ----------
    fill
        Clips and fills the features, appends the flags.
    centre, factor
        Shape (24,): subtracted from and multiplied with the filled features and flags.
    window_centre, window_factor
        Shape (C,): the same for the channels of the window.
    window_limit
        Shape (C,): where the standardised channels are clipped; 0 for a channel that never varied.
    """

    fill: ClipAndFill
    centre: Singles
    factor: Singles
    window_centre: Singles
    window_factor: Singles
    window_limit: Singles

    @classmethod
    def learn(cls, features: Floats, window: Floats, clip_quantile: float) -> Self:
        """Take the statistics of training rows; `features` is (n, 12), `window` (n, 32, C)."""
        fill = ClipAndFill(clip_quantile).fit(features)
        filled = fill.transform(features)
        values, flags = filled[:, : len(FEATURES)], filled[:, len(FEATURES) :]
        channels = window.reshape(-1, window.shape[2])
        _refuse_huge(values, "a feature")
        _refuse_huge(channels, "a window")
        varies = _varies(channels)
        return cls(
            fill,
            np.concatenate([values.mean(axis=0), np.zeros(flags.shape[1])]).astype(np.float32),
            np.concatenate([_inverse_spread(values), np.minimum(flags.std(axis=0) / FLAG_SPREAD, 1.0)]).astype(np.float32),
            channels.mean(axis=0).astype(np.float32),
            np.where(varies, _inverse_spread(channels), 1.0).astype(np.float32),
            np.where(varies, WINDOW_LIMIT, 0.0).astype(np.float32),
        )

    def apply(self, features: Floats, window: Floats) -> tuple[Singles, Singles]:
        """Prepare rows: (n, 24) and (n, 32, C), float32."""
        filled = self.fill.transform(features).astype(np.float32)
        # A value beyond float32 becomes infinite here, as it does on its way into ONNX Runtime, and is then clipped.
        with np.errstate(over="ignore"):
            scaled = (window.astype(np.float32) - self.window_centre) * self.window_factor
        return (filled - self.centre) * self.factor, np.clip(scaled, -self.window_limit, self.window_limit)


class _LstmEstimator(BaseEstimator):
    """What both estimators share: parameters, checks, the held-out part, training, raw scores."""

    kind: ClassVar[Kind]

    def __init__(
        self,
        *,
        hidden: int,
        head: int,
        dropout: float,
        learning_rate: float,
        weight_decay: float,
        batch: int,
        max_epochs: int,
        patience: int,
        validation_share: float,
        clip_norm: float,
        device: str,
        clip_quantile: float,
        channels: int,
        seed: int,
        embargo_ns: int,
    ) -> None:
        self.hidden = hidden
        self.head = head
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch = batch
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation_share = validation_share
        self.clip_norm = clip_norm
        self.device = device
        self.clip_quantile = clip_quantile
        self.channels = channels
        self.seed = seed
        self.embargo_ns = embargo_ns

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        start: Any = None,
        end: Any = None,
    ) -> Self:
        """Train on the first rows, stop early on the last ones.

        Parameters
        ----------
        X
            Shape (n, 12 + 32 * channels): the features, NaN where missing, then the window in C order.
        y
            Shape (n,): 0 and 1 for the classifier, finite numbers for the regression.
        sample_weight
            Shape (n,), not negative.
        start, end
            Shape (n,): label intervals [start, end], int64 ns, `start` ascending. Without them the
            rows are instants 0, 1, 2, ... nanoseconds.

        Raises
        ------
        InputError
            Infinite features, a window value that is no finite number, a window of another width,
            labels, weights or times that do not fit, a missing GPU, a loss that is not finite.
        DataRefusedError
            Too few rows to hold some out, or one class only.
        """
        device = _device(self.device)
        features, window = self._split(X)
        target = self._target(y, len(features))
        weight = _weight(sample_weight, len(features))
        train, held_out = _hold_out(len(features), start, end, self.validation_share, self.embargo_ns)
        self._check_training_target(target[train])
        for name, rows in (("training", train), ("held-out", held_out)):
            if not weight[rows].sum() > 0.0:
                raise InputError(f"the weights of all {len(rows)} {name} rows are 0", limit="a positive sum", remedy="mend the weights")

        self.n_features_in_ = _columns(self.channels)
        self.preparation_ = Preparation.learn(features[train], window[train], self.clip_quantile)
        self.centre_, self.spread_ = self._target_scale(target[train], weight[train])
        scaled = ((target - self.centre_) / self.spread_).astype(np.float32)
        prepared = self.preparation_.apply(features, window)
        parts = [_Rows.of(*prepared, scaled, weight, rows, device) for rows in (train, held_out)]
        bias = self._first_bias(target[train], weight[train])
        best, self.history_ = _train(self, parts[0], parts[1], bias)
        self.weights_ = {name: values.cpu().numpy().copy() for name, values in best.items()}
        self.n_epochs_ = len(self.history_["train"])
        self.best_epoch_ = int(np.nanargmin(self.history_["validation"])) + 1
        self.validation_rows_ = held_out
        self.validation_raw_ = self._raw(features[held_out], window[held_out])
        return self

    def _raw(self, features: Floats, window: Floats) -> Floats:
        """Score rows on the CPU, whatever the network was trained on; shape (n,)."""
        import torch

        _one_thread()
        network = _Network.load({name: torch.from_numpy(values) for name, values in self.weights_.items()}, torch.device("cpu"))
        scores = np.empty(len(features))
        with torch.inference_mode():
            for first in range(0, len(features), CHUNK):
                piece = slice(first, first + CHUNK)
                static, bars = self.preparation_.apply(features[piece], window[piece])
                # Tensors of torch's own are aligned; the order of sums can depend on the alignment.
                output = network(torch.tensor(bars.swapaxes(0, 1)), torch.tensor(static))
                scores[piece] = self._link(output).numpy()
        return scores

    def _predict_raw(self, X: Any) -> Floats:
        check_is_fitted(self, "weights_")
        return self._raw(*self._split(X))

    def _split(self, X: Any) -> tuple[Floats, Floats]:
        """Cut a matrix into features (n, 12) and window (n, 32, C), and refuse what cannot be used."""
        values = np.asarray(X, dtype=np.float64)
        wanted, fixed = _columns(self.channels), len(FEATURES)
        if values.ndim != 2 or values.shape[1] != wanted:
            bars = f": a window of {(values.shape[1] - fixed) / self.channels:g} bars" if values.ndim == 2 else ""
            raise InputError(
                f"the input has the shape {values.shape}{bars}",
                limit=f"{wanted} columns: {fixed} features and {WINDOW_BARS} bars of {self.channels} channels",
                remedy=f"leave out signals with fewer than {WINDOW_BARS} closed bars before them, or build the dataset again",
            )
        features, window = values[:, :fixed], values[:, fixed:].reshape(-1, WINDOW_BARS, self.channels)
        infinite = np.argwhere(np.isinf(features))
        if len(infinite):
            row, column = infinite[0]
            raise InputError(
                f"{FEATURES[column]} is {features[row, column]} in row {row}; {len(infinite)} infinite value(s) in all",
                limit="finite numbers, or NaN where a feature is missing",
                remedy="mend the source of the feature",
            )
        broken = np.argwhere(~np.isfinite(window))
        if len(broken):
            row, bar, channel = broken[0]
            raise InputError(
                f"channel {channel} of bar {bar} in the window of row {row} is {window[row, bar, channel]}; {len(broken)} such value(s)",
                limit="finite numbers: a window has no missing bars",
                remedy="leave the signal out, or mend its bars",
            )
        return features, window

    def _target(self, y: Any, size: int) -> Floats:
        target = np.asarray(y, dtype=np.float64)
        if target.shape != (size,):
            raise InputError(f"the labels have the shape {target.shape}", limit=f"({size},), one a row", remedy="mend the labels")
        self._check_target(target)
        return target

    # What follows differs between a label and a number.

    def _check_target(self, target: Floats) -> None:
        raise NotImplementedError

    def _check_training_target(self, target: Floats) -> None:
        raise NotImplementedError

    def _target_scale(self, target: Floats, weight: Floats) -> tuple[float, float]:
        raise NotImplementedError

    def _first_bias(self, target: Floats, weight: Floats) -> float:
        raise NotImplementedError

    def _loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _link(self, output: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class LstmClassifier(ClassifierMixin, _LstmEstimator):
    """P(label = 1) from the window and the features; weighted cross-entropy.

    Parameters
    ----------
    hidden, head, dropout, learning_rate, weight_decay, batch, max_epochs, patience, validation_share, clip_norm, device
        As in section `train.lstm` of `params.yaml`.
    clip_quantile
        Features are clipped to this and the opposite training quantile.
    channels
        Values per bar of the window.
    seed
        Of the weights at the start, the order of rows and the dropout.
    embargo_ns
        Nanoseconds that a training label must end before the first held-out row starts.

    Attributes
    ----------
    classes_
        [0, 1].
    weights_
        float32 arrays by name, torch's layout; the best pass.
    preparation_
        Statistics of the training rows.
    n_epochs_, best_epoch_
        Passes that were made, and the one whose weights were kept (from 1).
    history_
        Weighted loss per pass: "train" (with dropout) and "validation".
    validation_rows_, validation_raw_
        Positions of the rows that were held out for early stopping, and their raw scores.
    """

    kind: ClassVar[Kind] = "classification"

    @property
    def classes_(self) -> NDArray[np.int64]:
        """The labels, in the order of the columns of `predict_proba`."""
        check_is_fitted(self, "weights_")
        return np.array([0, 1])

    def predict_proba(self, X: Any) -> Floats:
        """P(0) and P(1), shape (n, 2)."""
        raw = self._predict_raw(X)
        return np.column_stack([1.0 - raw, raw])

    def predict(self, X: Any) -> NDArray[np.int64]:
        """The likelier class, shape (n,)."""
        return (self._predict_raw(X) >= 0.5).astype(np.int64)

    def _check_target(self, target: Floats) -> None:
        odd = target[~np.isin(target, (0.0, 1.0))]
        if len(odd):
            raise InputError(f"{len(odd)} label(s) are neither 0 nor 1, the first is {odd[0]:g}", limit="0 or 1", remedy="mend the labels")

    def _check_training_target(self, target: Floats) -> None:
        if (target == target[0]).all():
            raise DataRefusedError(
                f"all {len(target)} training rows have the label {target[0]:g}",
                limit="both classes before the held-out part",
                remedy="collect more trades or lower splits.folds",
            )

    def _target_scale(self, target: Floats, weight: Floats) -> tuple[float, float]:  # noqa: ARG002
        return 0.0, 1.0

    def _first_bias(self, target: Floats, weight: Floats) -> float:
        # From the base rate on, the first passes need not learn it. Half a row each keeps the rate off 0 and 1.
        ones = float((weight * target).sum()) + 0.5
        zeros = float((weight * (1.0 - target)).sum()) + 0.5
        return float(np.log(ones / zeros))

    def _loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(output, target, reduction="none")

    def _link(self, output: torch.Tensor) -> torch.Tensor:
        return output.sigmoid()


class LstmRegressor(RegressorMixin, _LstmEstimator):
    """The expected target from the window and the features; weighted squared error on the standardised target.

    Parameters and attributes are those of `LstmClassifier`, and:

    Attributes
    ----------
    centre_, spread_
        Weighted mean and standard deviation of the training target.
    """

    kind: ClassVar[Kind] = "regression"

    def predict(self, X: Any) -> Floats:
        """Shape (n,), in the unit of the target."""
        return self._predict_raw(X)

    def _check_target(self, target: Floats) -> None:
        broken = np.flatnonzero(~np.isfinite(target))
        if len(broken):
            raise InputError(
                f"the target is {target[broken[0]]} in row {broken[0]}; {len(broken)} such value(s) in all",
                limit="finite numbers",
                remedy="leave the rows out, or mend the target",
            )

    def _check_training_target(self, target: Floats) -> None:
        pass

    def _target_scale(self, target: Floats, weight: Floats) -> tuple[float, float]:
        centre = float(np.average(target, weights=weight))
        spread = float(np.sqrt(np.average((target - centre) ** 2, weights=weight)))
        return centre, spread if _varies(target[:, np.newaxis])[0] and spread > 0.0 else 1.0

    def _first_bias(self, target: Floats, weight: Floats) -> float:  # noqa: ARG002
        return 0.0

    def _loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (output - target).square()

    def _link(self, output: torch.Tensor) -> torch.Tensor:
        return output * self.spread_ + self.centre_


def build(kind: Kind, settings: Lstm, *, clip_quantile: float, channels: int, seed: int, embargo_ns: int) -> LstmClassifier | LstmRegressor:
    """Make an unfitted estimator from section `train.lstm` of the settings."""
    estimator = LstmClassifier if kind == "classification" else LstmRegressor
    return estimator(**settings.model_dump(), clip_quantile=clip_quantile, channels=channels, seed=seed, embargo_ns=embargo_ns)


def to_onnx(estimator: LstmClassifier | LstmRegressor) -> ModelProto:
    """Write a fitted estimator as an ONNX graph with its preparation; the same estimator gives the same bytes.

    Inputs "features" float32 (n, 12), NaN for missing, and "window" float32 (n, 32, C), finite;
    output "score" float32 (n, 1): P(1) or the value.
    """
    from onnx import TensorProto, helper, numpy_helper

    check_is_fitted(estimator, "weights_")
    weights, preparation, fill = estimator.weights_, estimator.preparation_, estimator.preparation_.fill
    rows, count, classify = "rows", len(FEATURES), estimator.kind == "classification"

    def onnx_order(name: str) -> Singles:
        # torch stacks the gates as input, forget, cell, output; ONNX as input, output, forget, cell.
        gate_in, forget, cell, gate_out = np.split(weights[name], 4)
        return np.concatenate([gate_in, gate_out, forget, cell])[np.newaxis]

    constants: dict[str, NDArray[Any]] = {
        "median": fill.median_[np.newaxis].astype(np.float32),
        "lower": fill.lower_[np.newaxis].astype(np.float32),
        "upper": fill.upper_[np.newaxis].astype(np.float32),
        "centre": preparation.centre[np.newaxis],
        "factor": preparation.factor[np.newaxis],
        "window_centre": preparation.window_centre,
        "window_factor": preparation.window_factor,
        "window_lower": -preparation.window_limit,
        "window_upper": preparation.window_limit,
        "input_weights": onnx_order("weight_ih"),
        "state_weights": onnx_order("weight_hh"),
        "gate_biases": np.concatenate([onnx_order("bias_ih"), onnx_order("bias_hh")], axis=1),
        "direction": np.array([0], dtype=np.int64),
        "head_weight": weights["head_weight"],
        "head_bias": weights["head_bias"],
        "out_weight": weights["out_weight"],
        "out_bias": weights["out_bias"],
    }
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("IsNaN", ["features"], "missing", {}),
        ("Where", ["missing", "median", "features"], "filled", {}),
        ("Max", ["filled", "lower"], "raised", {}),
        ("Min", ["raised", "upper"], "clipped", {}),
        ("Cast", ["missing"], "flags", {"to": TensorProto.FLOAT}),
        ("Concat", ["clipped", "flags"], "joined", {"axis": 1}),
        ("Sub", ["joined", "centre"], "centred", {}),
        ("Mul", ["centred", "factor"], "static", {}),
        ("Sub", ["window", "window_centre"], "window_centred", {}),
        ("Mul", ["window_centred", "window_factor"], "window_scaled", {}),
        ("Min", ["window_scaled", "window_upper"], "window_lowered", {}),
        ("Max", ["window_lowered", "window_lower"], "window_clipped", {}),
        # ONNX Runtime's LSTM knows only the time-major layout.
        ("Transpose", ["window_clipped"], "bars", {"perm": [1, 0, 2]}),
        ("Squeeze", ["last_states", "direction"], "last_state", {}),
        ("Concat", ["last_state", "static"], "seen", {"axis": 1}),
        ("Gemm", ["seen", "head_weight", "head_bias"], "head_sum", {"transB": 1}),
        ("Relu", ["head_sum"], "head", {}),
        ("Gemm", ["head", "out_weight", "out_bias"], "raw", {"transB": 1}),
    ]
    if classify:
        steps.append(("Sigmoid", ["raw"], "score", {}))
    else:
        constants["target_centre"] = np.array([estimator.centre_], dtype=np.float32)
        constants["target_spread"] = np.array([estimator.spread_], dtype=np.float32)
        steps += [("Mul", ["raw", "target_spread"], "spread", {}), ("Add", ["spread", "target_centre"], "score", {})]
    nodes = [helper.make_node(operator, inputs, [output], name=output, **attributes) for operator, inputs, output, attributes in steps]
    recurrent = helper.make_node(
        "LSTM",
        ["bars", "input_weights", "state_weights", "gate_biases"],
        ["", "last_states"],
        name="lstm",
        hidden_size=estimator.hidden,
    )
    nodes.insert(next(place for place, node in enumerate(nodes) if node.op_type == "Squeeze"), recurrent)
    graph = helper.make_graph(
        nodes,
        "amiral_lstm",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [rows, count]),
            helper.make_tensor_value_info("window", TensorProto.FLOAT, [rows, WINDOW_BARS, estimator.channels]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [rows, 1])],
        [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in constants.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, producer_name="amiral", opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))


@dataclass(frozen=True)
class _Rows:
    """Prepared rows on the device: window (32, n, C), static (n, 24), target and weight (n,)."""

    window: torch.Tensor
    static: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor

    @classmethod
    def of(cls, static: Singles, window: Singles, target: Singles, weight: Floats, rows: Rows, device: torch.device) -> Self:
        import torch

        weights = (weight[rows] / weight[rows].mean()).astype(np.float32)
        arrays = window[rows].swapaxes(0, 1), static[rows], target[rows], weights
        return cls(*(torch.tensor(values, device=device) for values in arrays))

    def pieces(self, order: torch.Tensor, count: int) -> Iterator[_Rows]:
        """The rows in this order, in `count` pieces of almost equal size."""
        for rows in order.to(self.target.device).tensor_split(count):
            yield _Rows(self.window[:, rows], self.static[rows], self.target[rows], self.weight[rows])


@dataclass(frozen=True)
class _Network:
    """The layers, as torch's recurrent module and four plain tensors."""

    lstm: torch.nn.LSTM
    head_weight: torch.Tensor
    head_bias: torch.Tensor
    out_weight: torch.Tensor
    out_bias: torch.Tensor

    @classmethod
    def load(cls, weights: Weights, device: torch.device) -> Self:
        import torch

        gates, channels = weights["weight_ih"].shape
        # Made without memory first: the module would otherwise draw its weights from the global generator.
        lstm = torch.nn.LSTM(channels, gates // 4, device="meta").to_empty(device=device)
        with torch.no_grad():
            for name in _RECURRENT:
                getattr(lstm, f"{name}_l0").copy_(weights[name])
        plain = (weights[name].to(device, copy=True) for name in ("head_weight", "head_bias", "out_weight", "out_bias"))
        return cls(lstm, *plain)

    def named(self) -> Weights:
        recurrent = {name: getattr(self.lstm, f"{name}_l0") for name in _RECURRENT}
        plain = {name: getattr(self, name) for name in ("head_weight", "head_bias", "out_weight", "out_bias")}
        return {**recurrent, **plain}

    def __call__(self, window: torch.Tensor, static: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Score rows, shape (n,); `kept` (n, head) multiplies the head's activations."""
        import torch
        from torch.nn import functional

        _, (state, _) = self.lstm(window)
        seen = torch.cat([state[0], static], dim=1)
        head = functional.linear(seen, self.head_weight, self.head_bias).relu()
        if kept is not None:
            head = head * kept
        return functional.linear(head, self.out_weight, self.out_bias)[:, 0]


def _train(settings: _LstmEstimator, train: _Rows, held_out: _Rows, bias: float) -> tuple[Weights, dict[str, list[float]]]:
    """Train until the held-out loss has not fallen for `patience` passes; the best weights and the losses."""
    import torch

    _one_thread()
    generator = torch.Generator().manual_seed(settings.seed)
    device = train.target.device
    weights = _first_weights(train.window.shape[2], settings.hidden, settings.head, bias, generator)
    network = _Network.load(weights, device)
    parameters = [values.requires_grad_() for values in network.named().values()]
    # The first optimiser of a process imports a large part of torch, which two threads must not do at once.
    with _IMPORTING:
        optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    size = len(train.target)
    count = -(-size // settings.batch)
    history: dict[str, list[float]] = {"train": [], "validation": []}
    best: Weights | None = None
    stale = 0
    for _ in range(settings.max_epochs):
        total = torch.zeros((), device=device)
        for piece in train.pieces(torch.randperm(size, generator=generator), count):
            kept = (torch.rand((len(piece.target), settings.head), generator=generator) >= settings.dropout) / (1.0 - settings.dropout)
            output = network(piece.window, piece.static, kept.to(device))
            loss = (piece.weight * settings._loss(output, piece.target)).mean()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
            optimiser.step()
            total += loss.detach() * len(piece.target)
        history["train"].append(float(total) / size)
        history["validation"].append(_validation_loss(settings, network, held_out))
        if not np.isfinite(history["validation"][-1]):
            break
        if best is None or history["validation"][-1] < min(history["validation"][:-1]):
            best, stale = {name: values.detach().clone() for name, values in network.named().items()}, 0
        else:
            stale += 1
            if stale >= settings.patience:
                break
    if best is None:
        _refuse_divergence(history["validation"][-1], settings.learning_rate)
    return best, history


def _validation_loss(settings: _LstmEstimator, network: _Network, rows: _Rows) -> float:
    import torch

    size = len(rows.target)
    total = 0.0
    with torch.no_grad():
        for piece in rows.pieces(torch.arange(size), -(-size // CHUNK)):
            total += float((piece.weight * settings._loss(network(piece.window, piece.static), piece.target)).sum())
    return total / size


def _first_weights(channels: int, hidden: int, head: int, bias: float, generator: torch.Generator) -> Weights:
    """Draw weights evenly within 1 / sqrt(inputs), torch's own rule, from this generator alone.

    The forget gates start open (Jozefowicz et al. 2015): the first bars of a window otherwise fade
    before the last one is read.
    """
    import torch

    def draw(bound: float, *shape: int) -> torch.Tensor:
        return (torch.rand(shape, generator=generator) * 2.0 - 1.0) * bound

    recurrent, joined = hidden**-0.5, (hidden + _WIDTH) ** -0.5
    weights = {
        "weight_ih": draw(recurrent, 4 * hidden, channels),
        "weight_hh": draw(recurrent, 4 * hidden, hidden),
        "bias_ih": draw(recurrent, 4 * hidden),
        "bias_hh": draw(recurrent, 4 * hidden),
        "head_weight": draw(joined, head, hidden + _WIDTH),
        "head_bias": draw(joined, head),
        "out_weight": draw(head**-0.5, 1, head),
        "out_bias": torch.tensor([bias]),
    }
    weights["bias_ih"][hidden : 2 * hidden] += 1.0
    return weights


def _hold_out(size: int, start: Any, end: Any, share: float, embargo: int) -> tuple[Rows, Rows]:
    """Positions of the training rows and of the last `share` of rows, purged against each other."""
    begin, finish = _intervals(size, start, end)
    held = int(size * share + 0.5)
    first = size - held
    if held < 1 or first < 2:
        raise DataRefusedError(
            f"{size} row(s) are too few to hold out {share:.0%} for early stopping",
            limit="at least one held-out and two training rows",
            remedy="collect more trades",
        )
    train = np.flatnonzero(finish[:first] < begin[first] - embargo)
    if len(train) < 2:
        raise DataRefusedError(
            f"purging leaves {len(train)} of {first} training rows before the held-out part",
            limit=f"at least two whose labels end more than {embargo / 3_600_000_000_000:g} h before it",
            remedy="collect trades over a longer time, and pass their label intervals",
        )
    return train, np.arange(first, size)


def _intervals(size: int, start: Any, end: Any) -> tuple[Times, Times]:
    if (start is None) != (end is None):
        raise InputError("only one of start and end was given", limit="both or neither", remedy="pass both")
    if start is None:
        instants = np.arange(size, dtype=np.int64)
        return instants, instants
    begin, finish = np.asarray(start), np.asarray(end)
    if begin.shape != (size,) or finish.shape != (size,):
        raise InputError(
            f"start {begin.shape} and end {finish.shape} for {size} rows", limit="one interval a row", remedy="mend the intervals"
        )
    if (np.diff(begin) < 0).any() or (finish < begin).any():
        row = int(np.flatnonzero((np.diff(begin, prepend=begin[:1]) < 0) | (finish < begin))[0])
        raise InputError(
            f"row {row} has the interval [{begin[row]}, {finish[row]}]",
            limit="rows sorted by start, none ending before it starts",
            remedy="sort the rows",
        )
    return begin, finish


def _weight(sample_weight: Any, size: int) -> Floats:
    if sample_weight is None:
        return np.ones(size)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (size,):
        raise InputError(f"the weights have the shape {weight.shape}", limit=f"({size},), one a row", remedy="mend the weights")
    bad = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0.0)))
    if len(bad):
        raise InputError(f"the weight of row {bad[0]} is {weight[bad[0]]}", limit="finite, not negative", remedy="mend the weights")
    return weight


def _device(name: str) -> torch.device:
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"device is {name!r}", limit="auto, cpu or cuda", remedy="set train.lstm.device to one of them")
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise InputError(
            f"device is 'cuda', but torch {torch.__version__} sees no GPU",
            limit="a CUDA GPU and a torch that is built for it",
            remedy="set train.lstm.device to auto or cpu",
        )
    return torch.device("cuda" if found and name != "cpu" else "cpu")


def _one_thread() -> None:
    """Compute on one thread, so that the order of sums, and with it the bits, is the same everywhere.

    OpenMP keeps the number per calling thread, so every fit sets it. It is not set back: a part of
    it is global, and another fit may be in the middle of its sums.
    """
    import torch

    torch.set_num_threads(1)


def _columns(channels: int) -> int:
    return len(FEATURES) + WINDOW_BARS * channels


def _varies(values: Floats) -> NDArray[np.bool_]:
    """Columns whose spread float32 can tell from rounding."""
    single = np.finfo(np.float32)
    varies: NDArray[np.bool_] = values.std(axis=0) > np.maximum(single.eps * np.abs(values).max(axis=0), single.tiny)
    return varies


def _inverse_spread(values: Floats) -> Floats:
    """1 / standard deviation of each column; 0 for one that does not vary."""
    spread = values.std(axis=0)
    return np.divide(1.0, spread, out=np.zeros_like(spread), where=_varies(values))


def _refuse_huge(values: Floats, what: str) -> None:
    largest, limit = float(np.abs(values).max()), float(np.sqrt(np.finfo(np.float32).max))
    if largest > limit:
        raise InputError(
            f"{what} reaches {largest:g} in the training rows",
            limit=f"at most {limit:g}, whose square float32 can hold",
            remedy="mend the source of the data",
        )


def _refuse_divergence(loss: float, learning_rate: float) -> NoReturn:
    raise InputError(
        f"the held-out loss is {loss} after the first pass at a learning rate of {learning_rate:g}",
        limit="a finite loss",
        remedy="lower train.lstm.learning_rate",
    )
