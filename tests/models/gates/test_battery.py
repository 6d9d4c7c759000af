from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.gates import battery, overfitting
from models.gates.battery import judge
from models.results import Evaluation, GateResult, Verdict
from models.training import TrainedModel
from pipelines.dataset import Dataset
from pipelines.settings import Settings
from tests.models.training import train_linear
from tests.models.worlds import make_clock_dataset, make_dataset

GATES = (
    "promotable_trades",
    "test_trades",
    "out_of_fold_skill",
    "test_skill",
    "test_score",
    "money_skill",
    "train_test_gap",
    "fold_deviation",
    "ladder",
    "onnx_parity",
)
Trained = tuple[TrainedModel, ...]


@pytest.fixture
def good(trained: Trained) -> Evaluation:
    """A classifier that passes everything but, at 2,000 trades, perhaps the fold deviation."""
    return replace(trained[1].evaluation, fold_scores=(0.66, 0.68, 0.67, 0.65, 0.69))


def gate(verdict: Verdict, name: str) -> GateResult:
    return next(item for item in verdict.gates if item.name == name)


def test_a_skilled_model_passes_every_gate(good: Evaluation, skilled: Dataset, settings: Settings) -> None:
    verdict = judge(good, skilled, settings, parity=1e-7)
    assert [item.name for item in verdict.gates] == list(GATES)
    assert verdict.candidate, verdict.reasons
    assert verdict.reasons == ()
    skill = gate(verdict, "test_skill")
    assert skill.evidence["lower"] < skill.evidence["score"] < skill.evidence["upper"]
    assert skill.evidence["trades"] == 400
    assert skill.evidence["days"] == len(np.unique(skilled.trading_days[good.test_rows]))
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_the_same_evaluation_gets_the_same_verdict(good: Evaluation, skilled: Dataset, settings: Settings) -> None:
    assert judge(good, skilled, settings, parity=0.0) == judge(good, skilled, settings, parity=0.0)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        (
            "promotable_trades",
            {"rows": {"all": 999, "test": 400}},
            "999 of 1000 clean trades, 1 missing: the model is for development only",
        ),
        ("test_trades", {"rows": {"all": 2000, "test": 199}}, "199 of 200 test trades, 1 missing"),
        ("test_score", {"train_score": 0.60, "test_score": 0.549}, "ROC-AUC 0.549 on 400 test trades is below 0.55"),
        (
            "train_test_gap",
            {"train_score": 0.90, "test_score": 0.75},
            "goes from 0.900 in training to 0.750 on the test part; the gap of 0.150 AUC points is above 0.1",
        ),
        ("fold_deviation", {"fold_scores": (0.5, 0.7, 0.5, 0.7, 0.6)}, "the 5 fold scores deviate by 0.100 AUC points, above 0.05"),
    ],
)
def test_each_gate_refuses_alone_and_says_why(
    name: str, changes: dict, reason: str, good: Evaluation, skilled: Dataset, settings: Settings
) -> None:
    verdict = judge(replace(good, **changes), skilled, settings, parity=0.0)
    assert not verdict.candidate
    assert [item.name for item in verdict.gates if not item.passed] == [name]
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize(
    ("name", "field", "reason"),
    [
        ("out_of_fold_skill", "oof_predictions", "out of fold; the lower bound"),
        ("test_skill", "test_predictions", "on the test part; the lower bound"),
    ],
)
def test_predictions_without_skill_are_refused(
    name: str, field: str, reason: str, good: Evaluation, skilled: Dataset, settings: Settings
) -> None:
    noise = np.random.default_rng(0).permutation(getattr(good, field))
    verdict = judge(replace(good, **{field: noise}), skilled, settings, parity=0.0)
    assert [item.name for item in verdict.gates if not item.passed] == [name, "money_skill"]
    assert reason in verdict.reasons[0]
    assert "is not above 0.5" in verdict.reasons[0]


def test_knowing_the_label_without_earning_more_is_refused(good: Evaluation, skilled: Dataset, settings: Settings) -> None:
    # The label stays as predictable as it was, but what a trade pays is drawn afresh.
    paid = np.random.default_rng(0).permutation(skilled.target("realized_r"))
    verdict = judge(good, Dataset(skilled.frame.assign(**{"target.realized_r": paid}), skilled.card, skilled.windows), settings, parity=0.0)
    assert [item.name for item in verdict.gates if not item.passed] == ["money_skill"]
    assert "higher scores do not surely bring a higher realised R" in verdict.reasons[0]


@pytest.mark.parametrize(("count", "allowed"), [(1000, True), (999, False), (500, False)])
def test_from_500_to_999_trades_a_model_is_for_development_only(
    count: int, allowed: bool, good: Evaluation, skilled: Dataset, settings: Settings
) -> None:
    verdict = judge(replace(good, rows={"all": count, "test": 200}), skilled, settings, parity=0.0)
    assert gate(verdict, "promotable_trades").passed is allowed
    assert verdict.candidate is allowed


@pytest.mark.parametrize(("parity", "passed"), [(1e-5, True), (1.1e-5, False), (float("inf"), False), (float("nan"), False), (None, False)])
def test_another_onnx_score_is_refused(parity: float | None, passed: bool, good: Evaluation, skilled: Dataset, settings: Settings) -> None:
    verdict = judge(good, skilled, settings, parity=parity)
    assert verdict.candidate is passed
    assert gate(verdict, "onnx_parity").passed is passed


@pytest.mark.parametrize(
    ("name", "changes"), [("test_score", {"test_score": float("nan")}), ("fold_deviation", {"fold_scores": (0.6, float("nan"), 0.6)})]
)
def test_what_is_not_a_number_does_not_pass(name: str, changes: dict, good: Evaluation, skilled: Dataset, settings: Settings) -> None:
    found = gate(judge(replace(good, **changes), skilled, settings, parity=0.0), name)
    assert not found.passed
    assert found.value is None
    assert "could not be measured" in found.reason


def test_constant_scores_have_no_skill(good: Evaluation, skilled: Dataset, settings: Settings) -> None:
    flat = replace(good, test_predictions=np.full(len(good.test_rows), 0.4), oof_predictions=np.full(len(good.oof_rows), 0.4))
    verdict = judge(flat, skilled, settings, parity=0.0)
    assert not gate(verdict, "test_skill").passed
    assert not gate(verdict, "out_of_fold_skill").passed


def test_a_gate_that_cannot_measure_refuses_with_the_reason(
    good: Evaluation, skilled: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> GateResult:
        raise ValueError("singular sample")

    monkeypatch.setattr(overfitting, "train_test_gap", fails)
    verdict = judge(good, skilled, settings, parity=0.0)
    assert not verdict.candidate
    assert verdict.reasons == ("train_test_gap could not be measured: singular sample",)
    assert len(verdict.gates) == len(GATES)


def test_a_bug_in_a_gate_is_not_hidden(good: Evaluation, skilled: Dataset, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(battery.overfitting, "train_test_gap", lambda *_: undefined_name)  # noqa: F821
    with pytest.raises(NameError):
        judge(good, skilled, settings, parity=0.0)


def test_no_gates_make_no_candidate() -> None:
    assert not Verdict("profitability", "linear", ()).candidate


def candidates(dataset: Dataset, settings: Settings) -> set[str]:
    verdicts = [judge(model.evaluation, dataset, settings, parity=0.0) for model in train_linear(dataset, settings)]
    assert not [item for verdict in verdicts for item in verdict.gates if "error" in item.evidence]
    return {verdict.target for verdict in verdicts if verdict.candidate}


def test_without_an_edge_nothing_becomes_candidate_in_20_of_20_worlds(settings: Settings) -> None:
    assert [candidates(make_dataset(4000, seed, auc=0.5), settings) for seed in range(20)] == [set()] * 20


def test_without_an_edge_few_trades_make_no_candidate_either(settings: Settings) -> None:
    assert [candidates(make_dataset(1200, seed, auc=0.5), settings) for seed in range(10)] == [set()] * 10


def test_a_model_that_knows_the_clock_but_earns_nothing_is_no_candidate(settings: Settings) -> None:
    learned = 0
    for seed in range(8):
        dataset = make_clock_dataset(4000, seed)
        profitability = train_linear(dataset, settings)[1].evaluation
        verdict = judge(profitability, dataset, settings, parity=0.0)
        learned += gate(verdict, "out_of_fold_skill").passed and gate(verdict, "test_skill").passed
        assert candidates(dataset, settings) == set()
    # The label is learned nearly always, so it is the money gate that refuses.
    assert learned >= 6


def test_a_known_edge_becomes_candidate_in_at_least_18_of_20_worlds(settings: Settings) -> None:
    """True ROC-AUC 0.62 and 4,000 trades."""
    found = [candidates(make_dataset(4000, seed, auc=0.62), settings) for seed in range(20)]
    assert sum(bool(names) for names in found) >= 18
    assert sum("profitability" in names for names in found) >= 18


def test_shuffled_labels_make_no_candidate(skilled: Dataset, settings: Settings) -> None:
    order = np.random.default_rng(0).permutation(len(skilled))
    frame = skilled.frame.copy()
    columns = [name for name in frame if name.startswith("target.")]
    frame[columns] = frame[columns].to_numpy()[order]
    assert candidates(Dataset(frame, skilled.card, skilled.windows), settings) == set()
