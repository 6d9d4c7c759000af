from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from models.artifact import Card, OnnxScorer, Package
from models.calibration import raw_scores
from models.export import WINDOW_SHAPE, package, parity, parity_scale, to_onnx
from models.families import FAMILIES as FAMILY_SPECS
from models.linear import build
from models.training import TrainedModel
from pipelines.dataset import Dataset
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURES
from pipelines.settings import FAMILIES, Family, Settings, load_settings
from tests.models.training import quick_settings, train_all_of

Trained = tuple[TrainedModel, ...]
Packages = tuple[Package, ...]


def probes() -> np.ndarray:
    """Rows of every kind: usual, at the ends, far outside, partly and wholly missing."""
    rng = np.random.default_rng(0)
    usual = rng.uniform(-1, 1, (500, 12))
    holes = usual.copy()
    holes[rng.random(holes.shape) < 0.4] = np.nan
    return np.vstack([usual, holes, np.full((1, 12), np.nan), np.full((1, 12), 1.0), np.full((1, 12), -1.0), 50.0 * usual[:20]])


def test_onnx_scores_as_python_does(trained: Trained, packages: Packages) -> None:
    for model, packed in zip(trained, packages, strict=True):
        scorer = OnnxScorer(packed.onnx, packed.card)
        found = scorer.score(probes())
        assert np.abs(found - raw_scores(model.estimator, probes())).max() <= 1e-5
        assert packed.parity <= 1e-5
        np.testing.assert_allclose(scorer.score(probes()[7:8]), found[7:8], atol=1e-7, err_msg="one row scores as in a batch")


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_of_every_family_keeps_parity(family: Family, method: str, skilled: Dataset) -> None:
    settings = quick_settings(f"calibration.method={method}")
    windowed = FAMILY_SPECS[family].windowed
    for model in train_all_of(skilled, family, settings):
        packed = package(model, skilled, settings, git_commit="abc123")
        assert packed.parity <= settings.registry.max_parity, (model.evaluation.name, packed.parity)
        scorer = OnnxScorer(packed.onnx, packed.card)
        assert scorer.windowed == windowed
        windows = np.zeros((len(probes()), *WINDOW_SHAPE)) if windowed else None
        matrix = probes() if windows is None else np.hstack([probes(), windows.reshape(len(probes()), -1)])
        unit = parity_scale(model, skilled)
        assert np.abs(scorer.score(probes(), windows) - raw_scores(model.estimator, matrix)).max() <= 1e-5 * unit
        assert package(model, skilled, settings, git_commit="abc123").onnx == packed.onnx


@pytest.mark.parametrize("combination", ["voting", "weighted", "stacking"])
def test_every_combination_keeps_parity(combination: str, skilled: Dataset) -> None:
    settings = quick_settings(f"train.ensemble.combination={combination}")
    model = train_all_of(skilled, "ensemble", settings)[0]
    packed = package(model, skilled, settings, git_commit="abc123")
    assert packed.parity <= 1e-5
    combined = model.estimator.combine(skilled.features)
    np.testing.assert_allclose(OnnxScorer(packed.onnx, packed.card).score(skilled.features), combined.score(combination), atol=1e-5)


def test_dollars_are_compared_in_units_of_their_spread(skilled: Dataset) -> None:
    models = {model.evaluation.target: model for model in train_all_of(skilled, "xgboost", quick_settings())}
    spread = skilled.target("net_pnl")[models["pnl_prediction"].evaluation.train_rows].std()
    assert parity_scale(models["pnl_prediction"], skilled) == pytest.approx(spread)
    assert parity_scale(models["profitability"], skilled) == 1.0
    assert parity_scale(models["signal_strength"], skilled) == 1.0


def test_parity_sees_another_model(trained: Trained, packages: Packages) -> None:
    assert parity(trained[0].estimator, packages[0].onnx, probes()) <= 1e-5
    other = build("classification", load_settings(overrides=["train.linear.c=0.001"]).train.linear, clip_quantile=0.01)
    other.fit(np.random.default_rng(1).uniform(-1, 1, (50, 12)), np.arange(50) % 2)
    assert parity(other, packages[0].onnx, probes()) > 1e-2


def test_columns_without_values_and_constant_ones_keep_parity() -> None:
    rng = np.random.default_rng(2)
    features = rng.uniform(-1, 1, (300, 12))
    features[:, 2] = np.nan
    features[:, 5] = 0.123456789
    features[rng.random(features.shape) < 0.1] = np.nan
    label = (rng.random(300) < 0.4).astype(float)
    for kind in ("classification", "regression"):
        pipeline = build(kind, load_settings().train.linear, clip_quantile=0.01).fit(features, label)
        assert parity(pipeline, to_onnx(pipeline), probes()) <= 1e-5


def test_the_same_model_gives_the_same_bytes(trained: Trained, packages: Packages, skilled: Dataset, settings: Settings) -> None:
    for model, packed in zip(trained, packages, strict=True):
        again = package(model, skilled, settings, git_commit="abc123")
        assert again.onnx == packed.onnx
        assert again.card.to_json() == packed.card.to_json()


def test_another_process_gives_the_same_bytes() -> None:
    script = (
        "import hashlib, numpy as np\n"
        "from models.linear import build\nfrom models.export import to_onnx\nfrom pipelines.settings import load_settings\n"
        "rng = np.random.default_rng(3)\nx = rng.uniform(-1, 1, (200, 12))\n"
        "p = build('classification', load_settings().train.linear, clip_quantile=0.01).fit(x, np.arange(200) % 2)\n"
        "print(hashlib.sha256(to_onnx(p)).hexdigest())\n"
    )
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONHASHSEED": "77"}
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment).stdout
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as own:
        exec(script, {})
    assert other == own.getvalue()


def test_the_file_is_old_enough_for_older_runtimes(packages: Packages) -> None:
    model = onnx.load_from_string(packages[0].onnx)
    onnx.checker.check_model(model)
    # The order of these is what differed between processes.
    assert [item.domain for item in model.opset_import] == ["", "ai.onnx.ml"]
    versions = {item.domain: item.version for item in model.opset_import}
    assert versions[""] <= 18
    assert versions["ai.onnx.ml"] <= 3
    assert model.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 12


def test_the_card_describes_the_model(trained: Trained, packages: Packages, skilled: Dataset, settings: Settings) -> None:
    card, evaluation = packages[1].card, trained[1].evaluation
    assert Card.from_json(card.to_json()) == card
    assert (card.target, card.family, card.kind, card.dtype) == ("profitability", "linear", "classification", "float32")
    assert tuple(card.features) == FEATURES
    assert card.dataset_hash == skilled.content_hash
    assert card.data_sources == {"simulated": 2000}
    assert card.feature_settings == settings.features.model_dump(mode="json")
    train_values = skilled.features[evaluation.train_rows, 0]
    assert card.neutral[FEATURES[0]] == pytest.approx(np.nanmedian(train_values))
    assert card.quantiles[FEATURES[0]][0] == np.nanmin(train_values)
    assert card.quantiles[FEATURES[0]][50] == pytest.approx(np.nanmedian(train_values))
    assert card.score_quantiles == evaluation.train_quantiles.tolist()


def test_a_model_of_other_features_is_refused(packages: Packages) -> None:
    card = packages[0].card
    with pytest.raises(InputError, match="12 features of version 99.*train the model again".replace(".*", r"(?s:.*)")):
        OnnxScorer(packages[0].onnx, card.model_copy(update={"feature_version": "99"}))
    with pytest.raises(InputError, match="in this order"):
        OnnxScorer(packages[0].onnx, card.model_copy(update={"features": card.features[::-1]}))


def test_a_recurrent_model_wants_the_whole_window(skilled: Dataset) -> None:
    settings = quick_settings()
    packed = package(train_all_of(skilled, "lstm", settings)[0], skilled, settings, git_commit="abc123")
    scorer = OnnxScorer(packed.onnx, packed.card)
    for windows in (None, np.zeros((2, 31, WINDOW_SHAPE[1])), np.zeros((1, *WINDOW_SHAPE))):
        with pytest.raises(InputError, match=r"given windows of shape.*\(2, 32, 6\).*all its bars"):
            scorer.score(np.zeros((2, 12)), windows)
    with pytest.raises(InputError, match=r"windows of 32 bars with gap.*train the model again"):
        OnnxScorer(packed.onnx, packed.card.model_copy(update={"window_channels": packed.card.window_channels[::-1]}))
    with pytest.raises(InputError, match="as its card says"):
        OnnxScorer(packed.onnx, packed.card.model_copy(update={"window_bars": 0}))


def test_damaged_files_are_refused(packages: Packages) -> None:
    for cut in (0, 3, len(packages[0].onnx) // 2, len(packages[0].onnx) - 1):
        with pytest.raises(InputError, match=f"the ONNX file of {cut} bytes cannot be loaded.*train and register".replace(".*", "(?s:.*)")):
            OnnxScorer(packages[0].onnx[:cut], packages[0].card)
    with pytest.raises(InputError, match="the ONNX file of 200 bytes cannot be loaded"):
        OnnxScorer(packages[0].onnx[:200], packages[0].card)
    with pytest.raises(InputError, match="a model card cannot be read"):
        Card.from_json("{")
    content = json.loads(packages[0].card.to_json())
    del content["features"]
    with pytest.raises(InputError, match="features"):
        Card.from_json(json.dumps(content))
