"""What a model listens to: permutation and SHAP importance of its inputs, and how they moved since the previous version.

Permutation importance asks what the score on the test part loses when one input is shuffled among
the trades (Breiman 2001; Fisher, Rudin and Dominici 2019): what an input is worth. SHAP asks how far
an input moves the model's answer (Lundberg and Lee 2017): what the model does with it, right or
wrong. The former needs outcomes and therefore the test part; the latter needs a sample of inputs,
which is drawn from the training part only (DOMAIN J-19).

A feature and its missing flag are one input. So is a channel of the window with its 32 bars: the
bars of a channel hang together so closely that shuffling one alone would make windows that no
market shows.

Correlated inputs share their importance in both, and a model without skill has shares of its noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.pipeline import Pipeline

from models.artifact import OnnxScorer, Package
from models.gates.skill import NO_SKILL
from models.metrics import NAN, pearson
from models.results import Evaluation, Kind
from pipelines.dataset import Dataset
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURES
from pipelines.features.window import CHANNELS
from pipelines.settings import Explain, Settings
from pipelines.storage import json_text

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

WINDOW_INPUTS = tuple(f"window.{channel}" for channel in CHANNELS)
"""Names of the inputs that a recurrent model has besides the twelve features."""

CHUNK = 4096
"""Rows that are scored at a time; bounds the memory, not the result."""

EVALUATIONS = 120_000
"""Rows that sampled Shapley values score at most, if that leaves a pair of permutations per trade; enough for shares to half a point."""

RESOLUTION = float(np.finfo(np.float32).eps)
"""Mean contributions below this share of the largest score are rounding of the float32 scores, and count as none."""


@dataclass(frozen=True)
class Importance:
    """How much each input of a model matters; every tuple is in the order of `inputs`.

    Attributes
    ----------
    inputs
        The twelve features; for a recurrent model also "window.<channel>".
    permutation, permutation_std
        Mean and standard deviation over the shuffles of the score that is lost without the input;
        NaN when the test part has no score at all, since its outcomes do not vary.
    permutation_share
        Positive means as shares of their sum; all zero when none is positive.
    shap
        Mean absolute SHAP value over trades of the training part, in the unit of `shap_method`.
    shap_share
        The same as shares of their sum; all zero when no input moves the score.
    shap_method
        Which explainer, and of what.
    score_name
        What `permutation` is measured in.
    rows
        Trades of the test part that were shuffled.
    """

    inputs: tuple[str, ...]
    permutation: tuple[float, ...]
    permutation_std: tuple[float, ...]
    permutation_share: tuple[float, ...]
    shap: tuple[float, ...]
    shap_share: tuple[float, ...]
    shap_method: str
    score_name: str
    rows: int

    def to_json(self) -> str:
        """Write JSON text; floats keep every bit, NaN becomes null."""
        return json_text(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; raises `InputError` for anything else."""
        try:
            values = json.loads(text)
            names = tuple(str(name) for name in values["inputs"])
            numbers = {item.name: _floats(values[item.name]) for item in fields(cls) if item.type == "tuple[float, ...]"}
            found = cls(
                inputs=names,
                **numbers,
                shap_method=str(values["shap_method"]),
                score_name=str(values["score_name"]),
                rows=int(values["rows"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"an importance cannot be read: {type(error).__name__}: {error}",
                limit="the text that Importance.to_json writes",
                remedy="train and register the model again",
            ) from None
        odd = {name: len(column) for name, column in numbers.items() if len(column) != len(names)}
        if odd:
            raise InputError(
                f"an importance has {len(names)} inputs but {odd}", limit="one value per input", remedy="train and register the model again"
            )
        return found


@dataclass(frozen=True)
class Contributions:
    """SHAP values of single trades.

    Attributes
    ----------
    values
        Shape (n, inputs): what each input adds to the score of each trade.
    base
        Shape (n,): the score of a trade of which nothing is known; with the values of the trade it
        adds up to `score`.
    score
        Shape (n,): what is explained, in the unit of `method`.
    method
        Which explainer, and of what.
    """

    values: Floats
    base: Floats
    score: Floats
    method: str


@dataclass(frozen=True)
class Shift:
    """How the share of one input compares with the previous version.

    Attributes
    ----------
    input
        Its name.
    current, previous
        Shares of the permutation importance, 0 to 1; 0 for what is or was no input.
    change
        (current - previous) / previous; None for a new input.
    flagged
        Whether a person should look at it.
    note
        Why, in words.
    """

    input: str
    current: float
    previous: float
    change: float | None
    flagged: bool
    note: str


def explain(estimator: Any, package: Package, evaluation: Evaluation, dataset: Dataset, settings: Settings) -> Importance:
    """Measure what each input of a trained model is worth, and how far it moves the score.

    Parameters
    ----------
    estimator
        The fitted estimator of the training (`models.training.TrainedModel.estimator`).
    package
        The same model as an ONNX file; it does the scoring.
    evaluation
        Of the same model: names the rows of its train and test part, and its score.
    dataset
        What it was trained on.
    settings
        `seed` and section `explain`.

    Returns
    -------
    Importance
        The same arguments give the same numbers; no global generator is read or moved.
    """
    scorer = OnnxScorer(package.onnx, package.card)
    for_shuffles, for_shap = np.random.default_rng(settings.seed).spawn(2)
    test = _Inputs.of(dataset, evaluation.test_rows, windowed=scorer.windowed)
    outcome = dataset.target(evaluation.judged_on)[evaluation.test_rows]
    losses = _losses(scorer, test, evaluation.kind, outcome, settings.explain.repeats, for_shuffles)
    worth = losses.mean(axis=1)
    found = contributions(estimator, package, dataset, evaluation.train_rows, settings.explain, for_shap)
    strength = np.abs(found.values).mean(axis=0)
    size = float(np.abs(found.score).max())
    # Even odds are zero log-odds, which is no measure of rounding.
    unit = max(size, 1.0) if evaluation.kind == "classification" else size
    strength = np.where(strength > RESOLUTION * unit, strength, 0.0)
    return Importance(
        inputs=test.names,
        permutation=tuple(worth.tolist()),
        permutation_std=tuple(losses.std(axis=1).tolist()),
        permutation_share=_shares(worth),
        shap=tuple(strength.tolist()),
        shap_share=_shares(strength),
        shap_method=found.method,
        score_name=evaluation.score_name,
        rows=len(test),
    )


def contributions(
    estimator: Any, package: Package, dataset: Dataset, train_rows: Rows, settings: Explain, rng: np.random.Generator
) -> Contributions:
    """SHAP values of a sample of training trades.

    The linear and the two tree families are explained before their calibration, because there the
    values are exact: the calibration is monotone and one-dimensional, so it changes how far a score
    moves, not by which input. Logistic models and boosting are explained in log-odds, the scale on
    which they add up, the forest as the mean of its trees. The ensemble and the LSTM have no exact
    explainer of this kind; the values of their final score are sampled.

    Parameters
    ----------
    estimator, package, dataset
        As in `explain`.
    train_rows
        Positions of the training trades; both the trades that are explained and those that stand
        for "unknown" are drawn from these.
    settings
        Section `explain` of the settings.
    rng
        Draws the trades and, where values are sampled, the permutations.

    Returns
    -------
    Contributions
        For up to `shap_rows` trades; the contribution of a missing flag is part of its feature's.
    """
    explained = _draw(train_rows, settings.shap_rows, rng)
    background = _draw(train_rows, settings.background_rows, rng)
    pipeline = getattr(estimator, "estimator_", estimator)
    if not isinstance(pipeline, Pipeline):
        scorer = OnnxScorer(package.onnx, package.card)
        rows, known = (_Inputs.of(dataset, chosen, windowed=scorer.windowed) for chosen in (explained, background))
        return _sampled(scorer, rows, known, rng)
    model = pipeline[-1]
    prepared, usual = (pipeline[:-1].transform(dataset.features[chosen]) for chosen in (explained, background))
    if hasattr(model, "coef_"):
        return _linear(model, prepared, usual)
    return _boosted(model, prepared) if hasattr(model, "get_booster") else _forest(model, prepared)


def shifts(current: Importance, previous: Importance | None, settings: Explain) -> tuple[Shift, ...]:
    """Compare the permutation shares of two versions (DOMAIN E.14).

    An input is flagged when its share moved by more than `max_shift` of what it was. Inputs whose
    previous share lies below `min_share` are left out: small shares are mostly noise, and any change
    of a tiny number is a large one. An input without any share before has no relative change; it is
    listed, and flagged, when its share exceeds `new_share`.

    Parameters
    ----------
    current, previous
        Importances of the two versions; previous is None for a first version.
    settings
        Section `explain` of the settings.

    Returns
    -------
    tuple of Shift
        In the order of the current inputs, then those that are inputs no longer; empty without a previous version.
    """
    if previous is None:
        return ()
    nothing = dict.fromkeys((*current.inputs, *previous.inputs), 0.0)
    now = nothing | dict(zip(current.inputs, current.permutation_share, strict=True))
    before = nothing | dict(zip(previous.inputs, previous.permutation_share, strict=True))
    found = []
    for name, old in before.items():
        if old == 0.0 and now[name] > settings.new_share:
            reason = "no share before" if name in previous.inputs else "not an input before"
            found.append(Shift(name, now[name], old, None, True, f"new: {reason}; a share above {settings.new_share:.0%} is flagged"))
        elif old > 0.0 and old >= settings.min_share:
            change = (now[name] - old) / old
            reason = "" if name in current.inputs else "gone: no longer an input; "
            flagged = abs(change) > settings.max_shift
            limit = f"{'beyond' if flagged else 'within'} the limit of {settings.max_shift:.0%} either way"
            found.append(Shift(name, now[name], old, change, flagged, reason + limit))
    return tuple(found)


@dataclass(frozen=True)
class _Inputs:
    """Rows as a scorer takes them, and their columns as the inputs that are explained."""

    features: Floats
    windows: NDArray[Any] | None

    @classmethod
    def of(cls, dataset: Dataset, rows: Rows, *, windowed: bool) -> Self:
        return cls(dataset.features[rows], dataset.windows[rows] if windowed else None)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def names(self) -> tuple[str, ...]:
        return FEATURES if self.windows is None else (*FEATURES, *WINDOW_INPUTS)

    def take(self, rows: Rows) -> _Inputs:
        return _Inputs(self.features[rows], None if self.windows is None else self.windows[rows])

    def shuffled(self, column: int, order: Rows) -> _Inputs:
        """One input from other rows."""
        features, windows = self.features, self.windows
        if windows is None or column < len(FEATURES):
            features = features.copy()
            features[:, column] = self.features[order, column]
            return _Inputs(features, windows)
        channel = column - len(FEATURES)
        mixed = windows.copy()
        mixed[:, :, channel] = windows[order, :, channel]
        return _Inputs(features, mixed)

    def mix(self, other: _Inputs, mask: NDArray[np.bool_]) -> _Inputs:
        """Inputs of this row where the mask says so, of the other's same row elsewhere; mask (n, m, inputs) gives n * m rows."""
        count = len(FEATURES)
        features = np.where(mask[:, :, :count], self.features[:, np.newaxis], other.features[:, np.newaxis]).reshape(-1, count)
        if self.windows is None or other.windows is None:
            return _Inputs(features, None)
        channels = mask[:, :, np.newaxis, count:]
        windows = np.where(channels, self.windows[:, np.newaxis], other.windows[:, np.newaxis])
        return _Inputs(features, windows.reshape(-1, *self.windows.shape[1:]))

    def score(self, scorer: OnnxScorer) -> Floats:
        pieces = (slice(first, first + CHUNK) for first in range(0, len(self), CHUNK))
        return np.concatenate(
            [scorer.score(self.features[piece], None if self.windows is None else self.windows[piece]) for piece in pieces]
        )


def _losses(scorer: OnnxScorer, test: _Inputs, kind: Kind, outcome: Floats, repeats: int, rng: np.random.Generator) -> Floats:
    """Score lost by each shuffle of each input; shape (inputs, repeats)."""
    losses = np.full((len(test.names), repeats), NAN)
    if not len(test) or np.ptp(outcome) == 0.0:
        return losses
    # The same shuffles for every input, so that their luck does not come between two inputs.
    orders = rng.permuted(np.tile(np.arange(len(test)), (repeats, 1)), axis=1)
    whole = _skill(kind, outcome, test.score(scorer))
    for column in range(len(losses)):
        for repeat, order in enumerate(orders):
            # A call per shuffle leaves every trade at its place in the batch, so an input that does not matter costs exactly 0.
            losses[column, repeat] = whole - _skill(kind, outcome, test.shuffled(column, order).score(scorer))
    return losses


def _skill(kind: Kind, outcome: Floats, predictions: Floats) -> float:
    """The evaluation's score; a regression that says the same of every trade has no correlation and knows nothing."""
    if kind == "classification":
        return _auc(outcome > 0.0, predictions)
    found = pearson(outcome, predictions)
    return NO_SKILL[kind] if math.isnan(found) else found


def _auc(positive: NDArray[np.bool_], predictions: Floats) -> float:
    """ROC-AUC from the ranks (Mann and Whitney 1947), ties half; a tenth of the time of scikit-learn's."""
    above = int(positive.sum())
    pairs = above * (len(positive) - above)
    return float((stats.rankdata(predictions)[positive].sum() - above * (above + 1) / 2) / pairs)


def _linear(model: Any, prepared: Floats, usual: Floats) -> Contributions:
    """Coefficient times distance from the background mean: exact for inputs that are independent of each other."""
    slopes = np.asarray(model.coef_, dtype=np.float64).ravel()
    intercept = float(np.asarray(model.intercept_).ravel()[0])
    centre = usual.mean(axis=0)
    parts = slopes * (prepared - centre)
    base = intercept + float((slopes * centre).sum())
    of = "log-odds before calibration" if hasattr(model, "predict_proba") else "value"
    return Contributions(_with_flags(parts), np.full(len(parts), base), intercept + (slopes * prepared).sum(axis=1), f"exact, linear; {of}")


def _boosted(model: Any, prepared: Floats) -> Contributions:
    """XGBoost's own TreeSHAP (Lundberg et al. 2020)."""
    import xgboost

    matrix = xgboost.DMatrix(prepared, nthread=1)
    booster = model.get_booster()
    parts = np.asarray(booster.predict(matrix, pred_contribs=True), dtype=np.float64)
    margin = np.asarray(booster.predict(matrix, output_margin=True), dtype=np.float64)
    of = "log-odds before calibration" if hasattr(model, "predict_proba") else "value before calibration"
    return Contributions(_with_flags(parts[:, :-1]), parts[:, -1], margin, f"exact, XGBoost's TreeSHAP; {of}")


def _forest(model: Any, prepared: Floats) -> Contributions:
    """TreeSHAP along the paths of the trees: what the trees themselves saw in training is the background."""
    import shap

    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
    parts = np.asarray(explainer.shap_values(prepared, check_additivity=False), dtype=np.float64)
    classifier = hasattr(model, "predict_proba")
    parts = parts[..., -1] if classifier else parts
    base = float(np.ravel(explainer.expected_value)[-1])
    values = model.predict_proba(prepared)[:, -1] if classifier else model.predict(prepared)
    of = "probability before calibration" if classifier else "value before calibration"
    return Contributions(_with_flags(parts), np.full(len(parts), base), np.asarray(values, dtype=np.float64), f"exact, TreeSHAP; {of}")


def _sampled(scorer: OnnxScorer, rows: _Inputs, background: _Inputs, rng: np.random.Generator) -> Contributions:
    """Shapley values of any scorer by sampled permutations (Strumbelj and Kononenko 2014).

    One draw takes a background trade and a random order of the inputs, and replaces one input after
    the other by that of the explained trade; what the score gains with an input is its contribution.
    The same draw is walked in the opposite order too: what one direction credits too early, the
    other credits too late, and much of the noise cancels (Mitchell et al. 2022).
    """
    inputs = len(rows.names)
    steps = inputs - 1  # the first and the last point of a walk are the background and the trade themselves
    draws = max(1, EVALUATIONS // (2 * steps * len(rows)))
    own, empty = rows.score(scorer), background.score(scorer)
    # Each trade goes through the background in an order of its own; none comes twice before all came once.
    turns = -(-draws // len(background))
    stand_in = np.concatenate([rng.permuted(np.tile(np.arange(len(background)), (len(rows), 1)), axis=1) for _ in range(turns)], axis=1)[
        :, :draws
    ]
    place = rng.permuted(np.tile(np.arange(inputs), (len(rows) * draws, 1)), axis=1)
    trade, partner = np.repeat(np.arange(len(rows)), draws), stand_in.ravel()
    gains = np.empty((len(trade), inputs))
    for part in _parts(len(trade), max(1, CHUNK // (2 * steps))):
        mask = place[part, np.newaxis, :] < np.arange(1, inputs)[np.newaxis, :, np.newaxis]
        mixed = rows.take(trade[part]).mix(background.take(partner[part]), np.concatenate([mask, ~mask], axis=1))
        scores = mixed.score(scorer).reshape(-1, 2, steps)
        ends = empty[partner[part], np.newaxis], own[trade[part], np.newaxis]
        forward = np.diff(np.concatenate([ends[0], scores[:, 0], ends[1]], axis=1), axis=1)
        # The complement shrinks step by step from the whole trade to the background: the same walk from its end.
        backward = -np.diff(np.concatenate([ends[1], scores[:, 1], ends[0]], axis=1), axis=1)
        gains[part] = np.take_along_axis((forward + backward) / 2.0, place[part], axis=1)
    values = gains.reshape(len(rows), draws, inputs).mean(axis=1)
    return Contributions(values, empty[stand_in].mean(axis=1), own, f"sampled, {draws} pairs of permutations per trade; score")


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def _draw(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """Up to `count` of the rows, each once, in order."""
    return np.sort(rng.choice(rows, min(count, len(rows)), replace=False))


def _with_flags(parts: Floats) -> Floats:
    """Add what the missing flags contribute to their features."""
    count = len(FEATURES)
    return parts[:, :count] + parts[:, count:]


def _shares(values: Floats) -> tuple[float, ...]:
    """Positive values as shares of their sum; zero for the others, NaN included."""
    positive = np.where(values > 0.0, values, 0.0)
    total = float(positive.sum())
    return tuple((positive / total if total > 0.0 else positive).tolist())


def _floats(values: list[float | None]) -> tuple[float, ...]:
    return tuple(NAN if value is None else float(value) for value in values)
