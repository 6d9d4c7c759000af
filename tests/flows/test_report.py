"""The report: self-contained, honest, safe against hostile text, the same bytes every time."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit

from flows.report.content import FailureRow, LabelBalance, ModelSection, headline
from flows.report.figures import best_of_families, uncalibrated
from flows.report.overview import failures, ladder_steps, rungs, target_groups
from flows.report.page import as_json, render, write_report
from models.explain import Shift
from models.results import GateResult, Verdict
from pipelines.features.twelve import FEATURES
from pipelines.settings import load_settings
from tests.flows.made_up import (
    BROKEN,
    INTERCEPT,
    NAN,
    SLOPE,
    WAITING,
    all_models,
    evaluation,
    few_trades,
    full_content,
    sample_content,
    section,
)

# matplotlib warns when a figure has no room for its text.
pytestmark = pytest.mark.filterwarnings("error")

SETTINGS = load_settings().report
HOSTILE = "<script>alert('x')</script><img src=http://evil.example/a.png onerror=alert(1)>&\"'"
LONG = "a_family_whose_name_somebody_made_far_too_long_for_any_table_or_figure_to_hold " * 3


class _Page(HTMLParser):
    """Collects what a browser would load, run and show."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name.startswith("on"):
                self.loads.append(f"{tag} {name}")
            elif name == "id":
                self.ids.append(value or "")
            elif name in ("src", "href", "xlink:href", "data", "action"):
                (self.links if (value or "").startswith("#") else self.loads).append(value or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shown(page: str) -> str:
    """The words on the page, with white space folded."""
    return re.sub(r"\s+", " ", unescape(" ".join(_Page(page).text)))


@pytest.fixture(scope="module")
def full_page() -> str:
    return render(full_content(failures=BROKEN), SETTINGS)


def training(family: str, title: str, state: str, **values: Any) -> dict[str, Any]:
    """What the train stage leaves of a family."""
    return {
        "family": family,
        "title": title,
        "state": state,
        "reason": "",
        "dataset_hash": "ab",
        "failures": {},
        "models": {},
        "tuned": {},
        **values,
    }


def test_the_page_of_twenty_models_needs_nothing_but_itself(full_page: str) -> None:
    parsed = _Page(full_page)
    assert parsed.loads == ["drift.html"]
    assert not {"script", "link", "iframe", "img", "object"} & set(parsed.tags)
    assert not re.search(r"url\(\s*['\"]?(?!#)", full_page)
    assert "@import" not in full_page
    assert len(full_page) < 3_000_000


def test_every_link_inside_the_page_leads_somewhere_and_ids_are_unique(full_page: str) -> None:
    parsed = _Page(full_page)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)
    assert [link for link in parsed.links if re.fullmatch(r"#m\d+", link)] != []


def test_every_gate_is_there_with_value_limit_and_reason() -> None:
    content = sample_content()
    text = shown(render(content, SETTINGS))
    for model in content.models:
        assert model.outcome in text
        for gate in model.verdict.gates:
            assert gate.reason in text
            assert gate.limit in text
    assert text.count("✗ fail") >= 4


def test_the_figures_are_drawn_for_every_model(full_page: str) -> None:
    # Folds, reliability and importance of twenty models, coefficients of the three linear ones, all scores, equity.
    assert _Page(full_page).tags.count("svg") == 20 * 3 + 3 + 2
    assert full_page.count("no skill (0.5)") == 10
    assert full_page.count("no skill (0)") == 10


def test_the_first_line_names_families_and_says_what_was_promoted_or_why_nothing() -> None:
    promoted = headline(sample_content())
    assert promoted.tone == "promoted"
    assert promoted.title == "1 of 3 models passed every gate: Linear profitability is a candidate."
    assert "Linear signal quality: refused by 2 of 5 gates (skill, fold deviation)" in promoted.details
    refused = headline(sample_content(models=tuple(m for m in sample_content().models if not m.verdict.candidate)))
    assert refused.title == "No candidate: 2 models trained, none passed every gate."
    nothing = headline(few_trades())
    assert nothing.title == "Nothing was trained."
    assert "188 missing" in nothing.details[0]
    for head in (refused, nothing):
        assert "The bot trades on with its own rules, unchanged." in head.details


def test_with_many_models_the_headline_stays_short_and_names_the_closest() -> None:
    nearly = section("lstm", "signal_strength")
    gates = tuple(dataclasses.replace(gate, passed=gate.name != "ladder") for gate in nearly.verdict.gates)
    nearly = dataclasses.replace(nearly, verdict=Verdict("signal_strength", "lstm", gates))
    others = tuple(model for model in all_models() if not model.verdict.candidate)[:15]
    head = headline(full_content(models=(*others, nearly)))
    assert head.title == "No candidate: 16 models trained, none passed every gate."
    assert len(head.details) == 3
    assert "skill (15)" in head.details[0]
    assert head.details[1] == "closest: LSTM signal strength: refused by 1 of 5 gates (ladder)"


def test_a_failure_is_said_in_the_first_line_even_beside_a_candidate() -> None:
    head = headline(full_content(failures=BROKEN))
    assert head.tone == "failed"
    assert head.title.startswith("1 of 20 models passed every gate: Random forest profitability is a candidate.")
    assert head.title.endswith("XGBoost profitability and LSTM failed.")
    assert head.details[:2] == (
        "XGBoost: profitability failed: all 410 training trades of a fold have profitability = 0",
        "LSTM failed: train.lstm.device is cuda, and there is no GPU",
    )
    alone = headline(dataclasses.replace(few_trades(), failures=BROKEN[1:]))
    assert (alone.tone, alone.title) == ("failed", "Nothing was trained: LSTM failed.")
    same = tuple(FailureRow("forest", "Random forest", target, "disk on fire") for target in ("profitability", "signal_quality"))
    assert "Random forest: profitability and signal quality failed: disk on fire" in headline(full_content(failures=same)).details


def test_the_ladder_says_of_every_family_what_came_of_it() -> None:
    trainings = [
        training("linear", "Linear", "trained", models={"profitability": {}}),
        training("forest", "Random forest", "trained", models={"profitability": {}, "signal_quality": {}}),
        training("xgboost", "XGBoost", "trained", models={"signal_quality": {}}, failures={"profitability": "one class only"}),
        training("lstm", "LSTM", "not yet", reason=WAITING),
        training("ensemble", "Ensemble filter", "failed", reason="no member was fitted"),
    ]
    rows = rungs(trainings, ["forest/profitability"])
    assert [row.state for row in rows] == ["trained", "trained", "partly failed", "not yet", "failed"]
    assert rows[0].sentence == "1 model, no candidate"
    assert rows[1].sentence == "2 models, 1 candidate"
    assert "profitability failed: one class only" in rows[2].sentence
    assert rows[3].sentence == WAITING
    assert "no member was fitted" in rows[4].sentence
    assert {row.name: row.reason for row in failures(trainings)} == {
        "xgboost/profitability": "one class only",
        "ensemble": "no member was fitted",
    }
    text = shown(render(sample_content(ladder=rows), SETTINGS))
    assert all(row.sentence in text for row in rows)


def test_the_ladder_names_the_rival_and_by_how_much_it_had_to_be_beaten() -> None:
    beaten = section("forest", "profitability", passed=True)
    lost = section("forest", "signal_quality")
    assert [step.sentence.replace("\N{NO-BREAK SPACE}", " ") for step in ladder_steps((beaten, lost))] == [
        "profitability: skill +12 % over linear (asked +5 %)",
        "signal quality: skill \N{MINUS SIGN}3 % over linear (asked +5 %)",
    ]
    linear = tuple(section("linear", target) for target in ("profitability", "signal_quality"))
    assert [step.sentence for step in ladder_steps(linear)] == ["the linear family has nobody to beat"]
    unmeasured = Verdict("profitability", "forest", (GateResult("ladder", False, None, "a measurable value", "no folds to compare"),))
    assert ladder_steps([dataclasses.replace(beaten, verdict=unmeasured)])[0].sentence == "no folds to compare"


def test_models_stand_by_target_and_the_best_is_best_out_of_fold_not_on_the_test_part() -> None:
    models = [section(family, "profitability", seed=seed) for seed, family in enumerate(("linear", "forest", "xgboost"))]  # type: ignore[arg-type]
    means, tests = (0.52, 0.56, NAN), (0.60, 0.51, 0.99)
    models = [
        dataclasses.replace(
            model, evaluation=dataclasses.replace(model.evaluation, fold_scores=(mean - 0.01, mean, mean + 0.01), test_score=test)
        )
        for model, mean, test in zip(models, means, tests, strict=True)
    ]
    (group, other) = target_groups((models[0], section("linear", "signal_strength"), *models[1:]))
    assert [row.model.title for row in group.rows] == ["Linear", "Random forest", "XGBoost"]
    assert [row.best for row in group.rows] == [False, True, False]
    assert group.rows[1].out_of_fold == pytest.approx(0.56)
    assert group.rows[1].deviation == pytest.approx(0.01)
    assert math.isnan(group.rows[2].out_of_fold)
    assert other.score_name == "correlation with realised R"
    assert [row.anchor for row in group.rows] == ["m0", "m2", "m3"]


def test_the_equity_shows_one_model_of_each_family_chosen_without_the_test_part(full_page: str) -> None:
    models = all_models()
    chosen = best_of_families(models)
    assert [model.evaluation.family for model in chosen] == ["linear", "forest", "xgboost", "lstm", "ensemble"]
    assert chosen[1].evaluation.target == "profitability"
    assert all(model.evaluation.judged_on != "exit_timing" for model in chosen)
    flattered = tuple(dataclasses.replace(m, evaluation=dataclasses.replace(m.evaluation, test_score=0.99)) for m in models)
    assert [model.name for model in best_of_families(flattered)] == [model.name for model in chosen]
    lines = full_page[full_page.index('aria-label="Equity') :]
    assert lines[: lines.index("</figure>")].count("with Random forest") == 1


def test_a_model_with_other_test_rows_has_its_own_baseline() -> None:
    early, late = section("linear", "profitability"), section("forest", "optimal_exit_timing", rows=400)
    text = shown(render(sample_content(models=(early, late)), SETTINGS))
    assert "with Random forest optimal exit timing" in text
    alone = render(sample_content(models=(late,)), SETTINGS)
    assert 'aria-label="Equity' not in alone  # its score says nothing about which trades to take
    assert "with Random forest optimal exit timing" in shown(alone)


def test_the_score_before_a_sigmoid_calibration_is_recovered() -> None:
    made, _ = evaluation("forest", "profitability", 3, 0.2)
    raw = uncalibrated(made)
    assert raw is not None
    assert np.allclose(expit(SLOPE * logit(raw) + INTERCEPT), made.test_predictions, atol=1e-12)
    assert uncalibrated(dataclasses.replace(made, details={"calibration_steps": 7.0})) is None
    assert uncalibrated(evaluation("forest", "signal_strength", 3, 0.2)[0]) is None
    page = render(sample_content(models=(section("forest", "profitability"),)), SETTINGS)
    assert "before the calibration" in page
    assert "before the calibration" not in render(sample_content(models=(section("forest", "signal_strength"),)), SETTINGS)


def test_a_flagged_shift_is_shown_with_what_it_was_and_a_small_one_is_not() -> None:
    model = section("forest", "profitability")
    text = shown(render(sample_content(models=(model,)), SETTINGS))
    assert "Importance that shifted against version 2" in text
    assert "vwap trend signal 9.0 % 21.0 % +133 % more than doubled" in text
    assert "level proximity 9.0 %" not in text
    new = dataclasses.replace(model, shifts=(Shift("session_time", 0.3, 0.0, None, True, "new"),))
    assert "session time 0.0 % 30.0 % \N{EN DASH} new" in shown(render(sample_content(models=(new,)), SETTINGS))
    first = dataclasses.replace(model, shifts=(), previous=None)
    assert "No previous version" in shown(render(sample_content(models=(first,)), SETTINGS))


def hostile_model(model: ModelSection) -> ModelSection:
    """The model with hostile text wherever there is text."""
    assert model.importance is not None
    names = tuple(f"{HOSTILE}{number}" for number in range(12))
    return dataclasses.replace(
        model,
        evaluation=dataclasses.replace(
            model.evaluation,
            target=HOSTILE,
            family=HOSTILE,
            judged_on=HOSTILE,
            parameters={HOSTILE: HOSTILE},
            details={HOSTILE: 1.0},
            metrics={HOSTILE: 1.0},
            coefficients={HOSTILE: 1.0, "b": 0.5},
        ),
        verdict=Verdict(
            HOSTILE, HOSTILE, (GateResult(HOSTILE, False, 1.0, HOSTILE, HOSTILE), GateResult("ladder", False, None, HOSTILE, HOSTILE))
        ),
        outcome=HOSTILE,
        title=HOSTILE,
        version=HOSTILE,
        previous=HOSTILE,
        importance=dataclasses.replace(model.importance, inputs=names, shap_method=HOSTILE, score_name=HOSTILE),
        shifts=(Shift(HOSTILE, 0.1, 0.2, -0.5, True, HOSTILE),),
    )


def test_hostile_text_is_shown_and_not_run() -> None:
    content = sample_content(
        source=HOSTILE,
        source_notes=(HOSTILE,),
        replay={HOSTILE: HOSTILE},
        quality={"grade": HOSTILE, "checks": [{"name": HOSTILE, "passed": False, "value": HOSTILE, "limit": HOSTILE, "reason": HOSTILE}]},
        labels=(LabelBalance(HOSTILE, HOSTILE, 1, 2),),
        thresholds={HOSTILE: HOSTILE},
        not_trained=HOSTILE,
        failures=(FailureRow(HOSTILE, HOSTILE, HOSTILE, HOSTILE),),
        ladder=rungs([training(HOSTILE, HOSTILE, "failed", reason=HOSTILE, failures={HOSTILE: HOSTILE})], []),
        models=(hostile_model(section("linear", "profitability")), hostile_model(section("forest", "signal_strength"))),
    )
    parsed = _Page(render(content, SETTINGS))
    assert not {"script", "img"} & set(parsed.tags)
    assert parsed.loads == ["drift.html"]
    assert "alert('x')" in " ".join(parsed.text)


def test_a_long_name_is_cut_in_figures_and_whole_in_the_tables() -> None:
    model = dataclasses.replace(section("forest", "profitability"), title=LONG.strip())
    page = render(sample_content(models=(model,)), SETTINGS)
    assert LONG.strip() in shown(page)
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert LONG.strip() not in drawn
    assert all(len(text) <= 60 for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn))


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_report(sample_content(), tmp_path / "a", SETTINGS)
    second = write_report(sample_content(), tmp_path / "b", SETTINGS)
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a" / "report.json").read_bytes() == (tmp_path / "b" / "report.json").read_bytes()


def test_a_run_without_models_has_a_page_that_says_why() -> None:
    page = render(few_trades(), SETTINGS)
    assert "Linear: 312 of 500 clean trades, 188 missing" in shown(page)
    assert "svg" not in _Page(page).tags


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_trades_are_named_as_such(simulated: bool) -> None:
    assert ("Simulated data." in shown(render(sample_content(simulated=simulated), SETTINGS))) == simulated


def test_numbers_that_do_not_exist_leave_no_nan_on_the_page() -> None:
    model = section("forest", "profitability")
    assert model.importance is not None
    nothing = (NAN,) * 12
    broken = dataclasses.replace(
        model,
        evaluation=dataclasses.replace(
            model.evaluation,
            fold_scores=(NAN,) * 5,
            fold_train_scores=(NAN,) * 5,
            train_score=NAN,
            validation_score=NAN,
            test_score=NAN,
            metrics={"roc_auc": NAN},
            calibration=dict.fromkeys(model.evaluation.calibration, NAN),
            details={"calibration_slope": NAN, "calibration_intercept": NAN},
        ),
        importance=dataclasses.replace(
            model.importance,
            permutation=nothing,
            permutation_std=nothing,
            permutation_share=(0.0,) * 12,
            shap=(0.0,) * 12,
            shap_share=(0.0,) * 12,
        ),
        labels=None,
    )
    page = render(sample_content(models=(broken,)), SETTINGS)
    assert not re.search(r"\bnan\b", shown(page), re.IGNORECASE)
    json.dumps(as_json(sample_content(models=(broken,))), allow_nan=False)


def test_the_json_beside_the_page_holds_the_decision() -> None:
    content = json.loads(json.dumps(as_json(sample_content(failures=BROKEN)), allow_nan=False))
    assert [model["candidate"] for model in content["models"]] == [False, True, False]
    assert content["models"][0]["gates"][3]["value"] is None
    assert content["models"][0]["importance"]["inputs"][0] == FEATURES[0]
    assert content["models"][0]["shifts"][0]["flagged"] is True
    assert content["headline"]["tone"] == "failed"
    assert content["ladder"][1]["sentence"] == WAITING
    assert list(content["failures"]) == ["xgboost/profitability", "lstm"]
    assert content["drift"]["features"][0]["name"] == "market_volatility"
