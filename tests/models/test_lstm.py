from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

from models import lstm
from models.artifact import open_session
from models.results import Kind
from pipelines.errors import DataRefusedError, InputError
from pipelines.splits import assert_no_leakage
from tests.models.lstm_worlds import CHANNELS, SETTINGS, Estimator, bends, feed, make, noise

KINDS: tuple[Kind, ...] = ("classification", "regression")
HOUR = 3_600_000_000_000


def scores(model: Estimator, inputs: np.ndarray) -> np.ndarray:
    return model.predict_proba(inputs)[:, 1] if isinstance(model, lstm.LstmClassifier) else model.predict(inputs)


def onnx_scores(model: Estimator, inputs: np.ndarray) -> np.ndarray:
    session = open_session(lstm.to_onnx(model).SerializeToString(deterministic=True))
    return session.run(["score"], feed(inputs))[0][:, 0].astype(np.float64)


def same(one: Estimator, other: Estimator) -> bool:
    return all(np.array_equal(values, other.weights_[name]) for name, values in one.weights_.items())


@pytest.fixture(scope="module")
def fitted() -> dict[Kind, Estimator]:
    inputs, label = bends(1200, seed=1)
    target = 250.0 + 40.0 * label + np.random.default_rng(0).normal(0.0, 5.0, len(label))
    return {"classification": make().fit(inputs, label), "regression": make("regression").fit(inputs, target)}


# --- the estimator -----------------------------------------------------------------------------------------------


def test_importing_the_module_does_not_import_torch() -> None:
    code = "import sys; import models.lstm; sys.exit('torch' in sys.modules or 'onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_parameters_are_those_of_the_settings_and_survive_a_clone(kind: Kind) -> None:
    model = make(kind, hidden=5, seed=3, embargo_ns=9)
    assert set(model.get_params()) == {*type(SETTINGS).model_fields, "clip_quantile", "channels", "seed", "embargo_ns"}
    assert clone(model).get_params() == model.get_params()
    assert (model.hidden, model.seed, model.embargo_ns, model.batch) == (5, 3, 9, SETTINGS.batch)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unfitted_estimator_refuses_to_answer(kind: Kind) -> None:
    for ask in (lambda: scores(make(kind), noise(3, 0)), lambda: lstm.to_onnx(make(kind))):
        with pytest.raises(NotFittedError):
            ask()


def test_shapes_types_and_probabilities(fitted: dict[Kind, Estimator]) -> None:
    probe = noise(50, 5)
    proba = fitted["classification"].predict_proba(probe)
    assert proba.shape == (50, 2)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    assert fitted["classification"].classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(fitted["classification"].predict(probe), proba[:, 1] >= 0.5)
    value = fitted["regression"].predict(probe)
    assert value.shape == (50,)
    assert value.dtype == np.float64
    assert fitted["regression"].predict(probe[:0]).shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_copy_answers_the_same(kind: Kind, fitted: dict[Kind, Estimator]) -> None:
    probe = noise(20, 3)
    copy = pickle.loads(pickle.dumps(fitted[kind]))
    np.testing.assert_array_equal(scores(copy, probe), scores(fitted[kind], probe))


# --- what it learns ----------------------------------------------------------------------------------------------


def test_a_pattern_in_the_order_of_the_bars_alone_is_found() -> None:
    model = make().fit(*bends(1500, seed=11))
    probe, label = bends(1000, seed=12)
    assert roc_auc_score(label, scores(model, probe)) > 0.9
    # The control: with the bars in another order the pattern is gone, so it was the order that the model read.
    window = probe[:, 12:].reshape(len(probe), 32, CHANNELS)
    shuffled = np.random.default_rng(0).permuted(np.tile(np.arange(32), (len(probe), 1)), axis=1)
    window[:] = np.take_along_axis(window, shuffled[:, :, np.newaxis], axis=1)
    assert abs(roc_auc_score(label, scores(model, probe)) - 0.5) < 0.1


def test_the_static_features_count_as_well() -> None:
    def world(seed: int) -> tuple[np.ndarray, np.ndarray]:
        inputs = noise(1500, seed)
        return inputs, (np.nan_to_num(inputs[:, 4]) + np.random.default_rng(seed).normal(0.0, 0.3, 1500) > 0.0).astype(float)

    model = make().fit(*world(1))
    probe, label = world(2)
    assert roc_auc_score(label, scores(model, probe)) > 0.9


def test_a_missing_flag_can_be_what_counts() -> None:
    def world(seed: int) -> tuple[np.ndarray, np.ndarray]:
        inputs = noise(2500, seed)
        return inputs, np.isnan(inputs[:, 2]).astype(float)

    model = make().fit(*world(1))
    probe, label = world(2)
    assert roc_auc_score(label, scores(model, probe)) > 0.9


def test_noise_is_not_learnt() -> None:
    found = []
    for seed in range(4):
        label = np.random.default_rng(seed).integers(0, 2, 2500).astype(float)
        inputs = noise(2500, 100 + seed)
        model = make(seed=seed).fit(inputs[:1000], label[:1000])
        found.append(roc_auc_score(label[1000:], scores(model, inputs[1000:])))
    # The standard error of one is 0.015, of their mean 0.0075.
    assert abs(np.mean(found) - 0.5) < 0.03
    assert max(found) < 0.56


def test_the_regression_finds_level_and_size_in_the_unit_of_the_target(fitted: dict[Kind, Estimator]) -> None:
    probe, label = bends(800, seed=21)
    value = scores(fitted["regression"], probe)
    assert value[label == 1.0].mean() == pytest.approx(290.0, abs=8.0)
    assert value[label == 0.0].mean() == pytest.approx(250.0, abs=8.0)


def test_weights_decide_between_contradicting_rows() -> None:
    inputs, label = bends(1000, seed=31)
    doubled = np.repeat(inputs, 2, axis=0)
    contradicting = np.repeat(label, 2)
    contradicting[1::2] = 1.0 - contradicting[1::2]
    weight = np.tile([1.9, 0.1], len(label))
    probe, truth = bends(500, seed=32)
    assert roc_auc_score(truth, scores(make().fit(doubled, contradicting, sample_weight=weight), probe)) > 0.8
    assert roc_auc_score(truth, scores(make().fit(doubled, contradicting, sample_weight=weight[::-1]), probe)) < 0.2


def test_the_weight_of_all_rows_together_does_not_matter() -> None:
    inputs, label = bends(300, seed=41)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, 300)
    short = {"max_epochs": 2}
    one = make("regression", **short).fit(inputs, label, sample_weight=weight)
    # A power of two, so that rounding is the same.
    assert same(one, make("regression", **short).fit(inputs, label, sample_weight=weight * 4.0))


@pytest.mark.parametrize(
    "change",
    [
        {"hidden": 8},
        {"head": 8},
        {"dropout": 0.6},
        {"learning_rate": 0.001},
        {"weight_decay": 0.5},
        {"batch": 100},
        {"max_epochs": 1},
        {"validation_share": 0.3},
        {"clip_norm": 1e-3},
        {"clip_quantile": 0.2},
        {"seed": 8},
        {"embargo_ns": 50},
    ],
    ids=str,
)
def test_every_setting_counts(change: dict[str, float]) -> None:
    inputs, label = bends(300, seed=42)
    assert not same(make(**{"max_epochs": 2, **change}).fit(inputs, label), make(max_epochs=2).fit(inputs, label))


def test_gradients_are_clipped() -> None:
    inputs, label = bends(500, seed=43)

    def movement(clip_norm: float) -> float:
        short, long = (make(max_epochs=n, patience=n, weight_decay=0.0, clip_norm=clip_norm).fit(inputs, label) for n in (1, 4))
        return max(float(np.abs(values - short.weights_[name]).max()) for name, values in long.weights_.items())

    # Adam's steps shrink only once the gradient is small beside its epsilon of 1e-8.
    assert movement(1e-12) < 1e-4
    assert movement(1.0) > 1e-3


# --- early stopping ----------------------------------------------------------------------------------------------


def test_training_stops_when_the_held_out_loss_no_longer_falls_and_keeps_the_best_pass() -> None:
    inputs, label = noise(800, 1), np.random.default_rng(2).integers(0, 2, 800).astype(float)
    # Pure noise and a network that learns it by heart: the held-out loss must rise soon.
    model = make(learning_rate=0.02, dropout=0.0, batch=32, max_epochs=60, patience=3).fit(inputs, label)
    losses = model.history_["validation"]
    assert len(losses) == len(model.history_["train"]) == model.n_epochs_ < 60
    assert model.best_epoch_ == int(np.argmin(losses)) + 1 == model.n_epochs_ - 3
    assert losses[-1] > min(losses)
    assert model.history_["train"][-1] < model.history_["train"][0]
    truth, raw = label[model.validation_rows_], model.validation_raw_
    kept = -np.mean(truth * np.log(raw) + (1.0 - truth) * np.log(1.0 - raw))
    assert kept == pytest.approx(min(losses), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_held_out_scores_are_those_of_the_final_model(kind: Kind, fitted: dict[Kind, Estimator]) -> None:
    inputs, _ = bends(1200, seed=1)
    rows = fitted[kind].validation_rows_
    np.testing.assert_array_equal(rows, np.arange(1200 - round(1200 * SETTINGS.validation_share), 1200))
    np.testing.assert_array_equal(fitted[kind].validation_raw_, scores(fitted[kind], inputs[rows]))


def test_training_rows_whose_labels_reach_the_held_out_part_have_no_part_in_the_fit() -> None:
    rng = np.random.default_rng(0)
    inputs, label = bends(400, seed=51)
    start = np.sort(rng.integers(0, 400 * HOUR, 400))
    end = start + rng.integers(0, 30 * HOUR, 400)
    settings = {"embargo_ns": 24 * HOUR, "max_epochs": 2}
    model = make(**settings).fit(inputs, label, start=start, end=end)
    held = model.validation_rows_
    purged = np.flatnonzero(end[: held[0]] >= start[held[0]] - 24 * HOUR)
    assert len(purged) > 20
    assert_no_leakage(np.setdiff1d(np.arange(held[0]), purged), held, start, end, embargo=24 * HOUR)

    poisoned, turned = inputs.copy(), label.copy()
    poisoned[purged] = 1e3
    turned[purged] = 1.0 - turned[purged]
    assert same(model, make(**settings).fit(poisoned, turned, start=start, end=end))
    # One row further and the poison is felt.
    poisoned[np.setdiff1d(np.arange(held[0]), purged)[-1]] = 1e3
    assert not same(model, make(**settings).fit(poisoned, turned, start=start, end=end))


def test_a_label_that_ends_when_the_held_out_part_starts_is_purged() -> None:
    inputs, label = bends(100, seed=53)
    start = np.arange(100) * HOUR
    one = make(max_epochs=1).fit(inputs, label, start=start, end=start + HOUR)
    inputs[84] = 1e3
    assert same(one, make(max_epochs=1).fit(inputs, label, start=start, end=start + HOUR))
    assert not same(one, make(max_epochs=1).fit(inputs, label, start=start, end=start + HOUR - 1))


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_rows_choose_the_pass_and_nothing_else(kind: Kind) -> None:
    inputs, label = bends(400, seed=52)
    held = slice(340, 400)
    one = make(kind, max_epochs=1).fit(inputs, label)
    other, turned = inputs.copy(), label.copy()
    other[held] = noise(60, 9) * 50.0
    turned[held] = 1.0 - turned[held]
    assert same(one, make(kind, max_epochs=1).fit(other, turned))


# --- the same bits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_fits_beside_each_other_give_the_bits_of_a_fit_alone(kind: Kind) -> None:
    inputs, label = bends(700, seed=61)
    short = {"max_epochs": 4, "patience": 4}
    alone = make(kind, **short).fit(inputs, label)
    together = threading.Barrier(3)

    def fit(seed: int) -> Estimator:
        together.wait(30)
        return make(kind, **short, seed=seed).fit(inputs, label)

    with ThreadPoolExecutor(3) as pool:
        first, second, other = pool.map(fit, (7, 7, 8))
    assert same(alone, first)
    assert same(alone, second)
    assert not same(alone, other)
    assert alone.history_ == first.history_
    content = [lstm.to_onnx(model).SerializeToString(deterministic=True) for model in (alone, first)]
    assert content[0] == content[1]


def test_another_process_with_more_threads_gives_the_same_file() -> None:
    # A network and a batch so large that torch would share their sums among the threads.
    code = (
        "import hashlib, torch; torch.set_num_threads(4); torch.manual_seed(4)\n"
        "from models import lstm; from tests.models.lstm_worlds import bends, make\n"
        "model = make(max_epochs=2, hidden=64, batch=1500).fit(*bends(1500, seed=61))\n"
        "print(hashlib.sha256(lstm.to_onnx(model).SerializeToString(deterministic=True)).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    model = make(max_epochs=2, hidden=64, batch=1500).fit(*bends(1500, seed=61))
    assert there == hashlib.sha256(lstm.to_onnx(model).SerializeToString(deterministic=True)).hexdigest()


def test_no_global_generator_is_touched() -> None:
    inputs, label = bends(300, seed=62)
    torch_before, numpy_before = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002
    scores(make(max_epochs=1).fit(inputs, label), inputs)
    assert torch.equal(torch_before, torch.get_rng_state())
    assert numpy_before == pickle.dumps(np.random.get_state())  # noqa: NPY002


def test_the_order_of_the_rows_that_are_asked_for_does_not_matter(fitted: dict[Kind, Estimator]) -> None:
    probe = noise(lstm.CHUNK + 40, 63)
    whole = scores(fitted["classification"], probe)
    np.testing.assert_allclose(scores(fitted["classification"], probe[::-1])[::-1], whole, atol=1e-6)
    np.testing.assert_allclose(scores(fitted["classification"], probe[-1:]), whole[-1:], atol=1e-6)


# --- preparation -------------------------------------------------------------------------------------------------


def test_inputs_that_never_varied_change_nothing_when_they_do() -> None:
    inputs, label = bends(500, seed=71)
    window = inputs[:, 12:].reshape(500, 32, CHANNELS)
    window[:, :, 3] = 0.1  # no float32 value: its mean is off by rounding
    inputs[:, 5] = 0.3
    inputs[:, 6] = np.nan
    inputs[:, 7] = np.nan_to_num(inputs[:, 7])
    model = make(max_epochs=3).fit(inputs, label)
    probe = inputs.copy()
    probe[:, 12:].reshape(500, 32, CHANNELS)[:, :, 3] = 40.0
    probe[:, 5] = -0.9
    probe[:, 6] = 0.5
    for answer in (scores, onnx_scores):
        np.testing.assert_allclose(answer(model, probe), answer(model, inputs), atol=1e-7)
    filled, flagged = inputs.copy(), inputs.copy()
    filled[:, 7] = model.preparation_.fill.median_[7]
    flagged[:, 7] = np.nan
    np.testing.assert_array_equal(scores(model, filled), scores(model, flagged))


def test_flags_that_were_hardly_ever_set_do_not_decide() -> None:
    rng = np.random.default_rng(74)
    inputs = noise(3000, seed=74)
    inputs[:, :12] = np.nan_to_num(inputs[:, :12])
    label = (inputs[:, 1] + rng.normal(0.0, 1.0, 3000) > 0.0).astype(float)
    for column in (3, 4, 5):
        rows = rng.choice(2000, 3, replace=False)
        inputs[rows, column] = np.nan
        label[rows] = 1.0
    model = make().fit(inputs, label)
    probe = np.zeros((2, inputs.shape[1]))
    probe[:, :12] = model.preparation_.fill.median_
    probe[1, 3:6] = np.nan
    with_values, without = scores(model, probe)
    # Flags of 0 and 1 would move it by 0.37.
    assert abs(with_values - without) < 0.1


def test_no_features_and_a_constant_target_do_not_crash() -> None:
    inputs = noise(200, 73)
    inputs[:, :12] = np.nan
    np.testing.assert_allclose(make("regression").fit(inputs, np.full(200, 3.5)).predict(inputs), 3.5, atol=0.5)
    label = (np.arange(200) % 4 == 0).astype(float)
    assert scores(make(max_epochs=1).fit(inputs, label), inputs).mean() == pytest.approx(0.25, abs=0.1)


# --- ONNX --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_agrees_over_common_extreme_and_empty_rows(kind: Kind, fitted: dict[Kind, Estimator]) -> None:
    rng = np.random.default_rng(81)
    common, _ = bends(1500, seed=82)
    extreme = noise(300, 83) * 10.0 ** rng.uniform(-45, 300, (300, 1))
    missing = common[:200].copy()
    missing[:, :12] = np.nan
    flat = np.zeros((2, common.shape[1]))
    probe = np.vstack([common, extreme, missing, flat])
    unit = 1.0 if kind == "classification" else fitted[kind].spread_
    expected = scores(fitted[kind], probe)
    assert np.isfinite(expected).all()
    assert np.abs(onnx_scores(fitted[kind], probe) - expected).max() / unit <= 1e-5
    assert np.ptp(expected) / unit > 0.3


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    hidden=st.integers(1, 9),
    head=st.integers(1, 9),
    channels=st.integers(1, 7),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(KINDS),
)
def test_onnx_agrees_for_every_shape_of_network(hidden: int, head: int, channels: int, scale: float, seed: int, kind: Kind) -> None:
    rng = np.random.default_rng(seed)
    inputs = np.hstack([rng.normal(0.0, scale, (80, 12)), rng.normal(scale, scale, (80, 32 * channels))])
    inputs[:, :12][rng.random((80, 12)) < 0.2] = np.nan
    target = rng.integers(0, 2, 80).astype(float)
    target[:2] = 0.0, 1.0
    model = make(kind, hidden=hidden, head=head, channels=channels, seed=seed, max_epochs=2, batch=32, learning_rate=0.1)
    model.fit(inputs, target)
    assert np.abs(onnx_scores(model, inputs) - scores(model, inputs)).max() <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_onnx_file_keeps_the_interface(kind: Kind, fitted: dict[Kind, Estimator]) -> None:
    model = lstm.to_onnx(fitted[kind])
    onnx.checker.check_model(model, full_check=True)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 18)]
    session = open_session(model.SerializeToString(deterministic=True))
    found = [(item.name, item.type, item.shape[1:]) for item in (*session.get_inputs(), *session.get_outputs())]
    single = "tensor(float)"
    assert found == [("features", single, [12]), ("window", single, [32, CHANNELS]), ("score", single, [1])]


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_window_value_that_is_no_number_is_named(value: float, fitted: dict[Kind, Estimator]) -> None:
    inputs, label = bends(300, seed=91)
    inputs[:, 12:].reshape(300, 32, CHANNELS)[17, 31, 2] = value
    for call in (lambda: make().fit(inputs, label), lambda: scores(fitted["classification"], inputs)):
        with pytest.raises(InputError, match=r"channel 2 of bar 31 in the window of row 17 is .*finite numbers.*remedy"):
            call()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_feature_is_named(value: float, fitted: dict[Kind, Estimator]) -> None:
    inputs, label = bends(300, seed=92)
    inputs[8, 1] = value
    for call in (lambda: make().fit(inputs, label), lambda: scores(fitted["classification"], inputs)):
        with pytest.raises(InputError, match=r"is -?inf in row 8.*finite.*remedy"):
            call()


@pytest.mark.parametrize("bars", [0, 31, 33])
def test_a_window_of_another_length_is_refused(bars: int, fitted: dict[Kind, Estimator]) -> None:
    inputs = np.zeros((100, 12 + bars * CHANNELS))
    for call in (lambda: make().fit(inputs, np.zeros(100)), lambda: scores(fitted["classification"], inputs)):
        with pytest.raises(InputError, match=rf"a window of {bars} bars.*140 columns.*32 bars of 4 channels.*remedy"):
            call()


def test_values_that_float32_cannot_square_are_refused_in_training() -> None:
    for column in (3, 40):
        inputs, label = bends(300, seed=93)
        inputs[5, column] = 1e25
        with pytest.raises(InputError, match=r"reaches 1e\+25.*remedy"):
            make(clip_quantile=0.0).fit(inputs, label)


def test_one_class_before_the_held_out_part_is_refused() -> None:
    inputs = noise(100, 94)
    label = np.zeros(100)
    with pytest.raises(DataRefusedError, match=r"all 85 training rows have the label 0.*both classes.*remedy"):
        make().fit(inputs, label)
    label[90:] = 1.0
    with pytest.raises(DataRefusedError, match="all 85 training rows"):
        make().fit(inputs, label)


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_too_few_rows_to_hold_some_out_are_refused(rows: int) -> None:
    with pytest.raises(DataRefusedError, match=rf"{rows} row\(s\) are too few to hold out 15%.*remedy"):
        make().fit(noise(rows, 95), np.arange(rows) % 2)


def test_an_embargo_longer_than_the_data_is_refused() -> None:
    inputs, label = bends(100, seed=96)
    start = np.arange(100) * HOUR
    with pytest.raises(DataRefusedError, match=r"purging leaves 0 of 85 training rows.*100 h.*remedy"):
        make(embargo_ns=100 * HOUR).fit(inputs, label, start=start, end=start + HOUR)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": np.arange(100)}, "only one of start and end"),
        ({"start": np.arange(100)[::-1], "end": np.arange(100) + 200}, r"row 1 has the interval \[98, 201\].*sorted"),
        ({"start": np.arange(100), "end": np.arange(100) - 1}, r"row 0 has the interval \[0, -1\]"),
        ({"start": np.arange(99), "end": np.arange(99)}, "100 rows"),
        ({"sample_weight": np.ones(99)}, r"\(99,\)"),
        ({"sample_weight": np.where(np.arange(100) == 4, -1.0, 1.0)}, r"the weight of row 4 is -1"),
        ({"sample_weight": np.where(np.arange(100) == 4, np.nan, 1.0)}, r"the weight of row 4 is nan"),
        ({"sample_weight": np.where(np.arange(100) < 85, 1.0, 0.0)}, "all 15 held-out rows are 0"),
        ({"y": np.arange(99) % 2}, r"\(99,\)"),
        ({"y": np.arange(100) % 3}, r"33 label\(s\) are neither 0 nor 1, the first is 2"),
    ],
)
def test_labels_weights_and_times_that_do_not_fit_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make().fit(noise(100, 97), **{"y": np.arange(100) % 2, **change})


def test_a_target_that_is_no_number_is_refused() -> None:
    target = np.zeros(100)
    target[9] = np.nan
    with pytest.raises(InputError, match="the target is nan in row 9"):
        make("regression").fit(noise(100, 98), target)


def test_a_missing_gpu_and_an_unknown_device_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    inputs, label = bends(100, seed=99)
    with pytest.raises(InputError, match=r"device is 'cuda', but torch .* sees no GPU.*auto or cpu"):
        make(device="cuda").fit(inputs, label)
    with pytest.raises(InputError, match=r"device is 'tpu'.*auto, cpu or cuda"):
        make(device="tpu").fit(inputs, label)
    short = {"max_epochs": 1}
    assert same(make(device="auto", **short).fit(inputs, label), make(device="cpu", **short).fit(inputs, label))


def test_a_loss_that_runs_away_is_refused_and_one_that_does_later_keeps_the_best_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, label = bends(300, seed=100)
    with pytest.raises(InputError, match=r"loss is (nan|inf).*learning rate of 1e\+30.*remedy: lower"):
        make("regression", learning_rate=1e30).fit(inputs, label)
    losses = iter([0.7, 0.6, float("nan")])
    monkeypatch.setattr(lstm, "_validation_loss", lambda *_: next(losses))
    model = make().fit(inputs, label)
    assert (model.n_epochs_, model.best_epoch_) == (3, 2)
    assert np.isfinite(scores(model, inputs)).all()
