from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from models.export import Card, OnnxScorer, Package, package, parity, to_onnx
from models.linear import build, predict
from models.training import TrainedModel
from pipelines.dataset import Dataset
from pipelines.errors import InputError
from pipelines.features.twelve import FEATURES
from pipelines.settings import Settings, load_settings

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
        kind = model.evaluation.kind
        found = OnnxScorer(packed.onnx, packed.card).score(probes())
        assert np.abs(found - predict(model.pipeline, kind, probes())).max() <= 1e-5
        assert packed.parity <= 1e-5
        np.testing.assert_allclose(
            OnnxScorer(packed.onnx, packed.card).score(probes()[7:8]), found[7:8], atol=1e-7, err_msg="one row scores as in a batch"
        )


def test_parity_sees_another_model(trained: Trained, packages: Packages) -> None:
    assert parity(trained[0].pipeline, "classification", packages[0].onnx, probes()) <= 1e-5
    other = build("classification", load_settings(overrides=["linear.c=0.001"]).linear)
    other.fit(np.random.default_rng(1).uniform(-1, 1, (50, 12)), np.arange(50) % 2)
    assert parity(other, "classification", packages[0].onnx, probes()) > 1e-2


def test_columns_without_values_and_constant_ones_keep_parity() -> None:
    rng = np.random.default_rng(2)
    features = rng.uniform(-1, 1, (300, 12))
    features[:, 2] = np.nan
    features[:, 5] = 0.123456789
    features[rng.random(features.shape) < 0.1] = np.nan
    label = (rng.random(300) < 0.4).astype(float)
    for kind in ("classification", "regression"):
        pipeline = build(kind, load_settings().linear).fit(features, label)
        assert parity(pipeline, kind, to_onnx(pipeline, kind), probes()) <= 1e-5


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
        "p = build('classification', load_settings().linear).fit(x, np.arange(200) % 2)\n"
        "print(hashlib.sha256(to_onnx(p, 'classification')).hexdigest())\n"
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
    assert [item.domain for item in model.opset_import] == ["ai.onnx.ml", ""]
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


def test_damaged_files_are_refused(packages: Packages) -> None:
    with pytest.raises(InputError, match="the ONNX file cannot be loaded"):
        OnnxScorer(packages[0].onnx[:200], packages[0].card)
    with pytest.raises(InputError, match="a model card cannot be read"):
        Card.from_json("{")
    content = json.loads(packages[0].card.to_json())
    del content["features"]
    with pytest.raises(InputError, match="features"):
        Card.from_json(json.dumps(content))
