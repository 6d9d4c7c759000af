from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone

from models.calibration import CalibratedClassifier, CalibratedRegressor
from models.ensemble import MEMBERS, EnsembleFilter
from models.families import FAMILIES, ModelSpec
from pipelines import settings as settings_module
from pipelines.settings import Family, load_settings
from pipelines.splits import embargo_ns
from pipelines.targets import BINARY_TARGETS, TARGETS

SETTINGS = load_settings()
MODELS = [(name, spec) for name, family in FAMILIES.items() for spec in family.models]
IDS = [f"{name}/{spec.target}" for name, spec in MODELS]


def test_the_families_are_those_of_the_settings_simplest_first() -> None:
    assert tuple(FAMILIES) == settings_module.FAMILIES
    assert all(family.name == name for name, family in FAMILIES.items())
    assert {family.name for family in FAMILIES.values() if family.windowed} == {"lstm"}


def test_the_models_of_the_domain() -> None:
    basic = ["signal_quality", "profitability", "signal_strength"]
    every = [*basic, "pnl_prediction", "optimal_exit_timing", "confidence_score"]
    wanted = {"linear": basic, "forest": every, "xgboost": every, "lstm": basic, "ensemble": basic[:2]}
    assert {name: [spec.target for spec in family.models] for name, family in FAMILIES.items()} == wanted
    with pytest.raises(StopIteration):
        FAMILIES["ensemble"].model("signal_strength")


@pytest.mark.parametrize(("name", "spec"), MODELS, ids=IDS)
def test_what_a_model_learns_and_is_judged_on_exists(name: Family, spec: ModelSpec) -> None:
    assert spec.label in TARGETS
    assert spec.judged_on in TARGETS
    if spec.kind == "classification":
        # Log-loss and ROC-AUC know two classes only.
        assert spec.loss == "log"
        assert {spec.label, spec.judged_on} <= set(BINARY_TARGETS)
    if spec.probability:
        assert spec.label in BINARY_TARGETS
    assert FAMILIES[name].model(spec.target) is spec


@pytest.mark.parametrize("target", sorted({spec.target for _, spec in MODELS}))
def test_a_target_means_the_same_in_every_family(target: str) -> None:
    assert len({spec for _, spec in MODELS if spec.target == target}) == 1


@pytest.mark.parametrize(("name", "spec"), MODELS, ids=IDS)
def test_an_estimator_is_built_unfitted_and_survives_a_clone(name: Family, spec: ModelSpec) -> None:
    estimator = FAMILIES[name].build(spec, SETTINGS)
    copy = clone(estimator)
    for model in (estimator, copy):
        assert not [attribute for attribute in vars(model) if attribute.endswith("_")]
    assert type(copy) is type(estimator)
    assert repr(copy.get_params()) == repr(estimator.get_params())


@pytest.mark.parametrize("name", ["linear", "forest", "xgboost"])
def test_probabilities_are_calibrated_and_values_are_not(name: Family) -> None:
    for spec in FAMILIES[name].models:
        estimator = FAMILIES[name].build(spec, SETTINGS)
        assert type(estimator) is (CalibratedClassifier if spec.kind == "classification" else CalibratedRegressor)
        assert estimator.calibration == (SETTINGS.calibration if spec.probability else None)
        assert estimator.embargo_ns == embargo_ns(SETTINGS.splits)


def test_the_settings_reach_the_models() -> None:
    changed = load_settings(
        overrides=["seed=7", "train.forest.trees=11", "train.xgboost.max_depth=3", "train.linear.c=0.5", "splits.embargo_hours=2.0"]
    )
    ensemble = FAMILIES["ensemble"].build(FAMILIES["ensemble"].models[0], changed)
    assert isinstance(ensemble, EnsembleFilter)
    assert tuple(ensemble.members) == MEMBERS
    assert ensemble.embargo_ns == 2 * 3_600_000_000_000
    forest, boosted = (ensemble.members[name].named_steps["model"] for name in ("forest", "xgboost"))
    assert (forest.n_estimators, forest.random_state, forest.n_jobs) == (11, 7, 1)
    assert (boosted.max_depth, boosted.random_state, boosted.n_jobs) == (3, 7, 1)
    assert ensemble.members["linear"].named_steps["model"].C == 0.5


def test_two_builds_share_nothing() -> None:
    # Folds are fitted side by side: a shared part would be fitted by two threads at once.
    one, two = (FAMILIES["ensemble"].build(FAMILIES["ensemble"].models[0], SETTINGS) for _ in range(2))
    for name in MEMBERS:
        assert one.members[name] is not two.members[name]
        assert one.members[name].named_steps["model"] is not two.members[name].named_steps["model"]


def test_heavy_libraries_are_imported_by_the_families_that_need_them() -> None:
    code = (
        "import sys\n"
        "from models.families import FAMILIES\n"
        "from pipelines.settings import load_settings\n"
        "def heavy(): print([name for name in ('torch', 'xgboost', 'onnx', 'mlflow') if name in sys.modules])\n"
        "heavy()\n"
        "for name in ('linear', 'forest'):\n"
        "    for spec in FAMILIES[name].models: FAMILIES[name].build(spec, load_settings())\n"
        "heavy()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[]", "[]"]


def test_every_build_gives_the_same_fit() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-1, 1, (200, 12))
    label = (inputs[:, 0] + rng.normal(size=200) > 0).astype(float)
    spec = FAMILIES["forest"].models[0]
    quick = load_settings(overrides=["train.forest.trees=5"])
    one, two = (FAMILIES["forest"].build(spec, quick).fit(inputs, label).predict_proba(inputs) for _ in range(2))
    np.testing.assert_array_equal(one, two)
