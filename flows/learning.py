"""The stages that learn: training one family, and the search for its parameters.

Plain functions, like those of `flows/stages.py`. Whatever goes wrong with a model or a family is
written down instead of raised, so that the other families go on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.context import CARD_FILE, EVALUATION_FILE, IMPORTANCE_FILE, MODEL_FILE, Context
from flows.progress import Advance
from flows.version import code_version
from pipelines.errors import AmiralError
from pipelines.storage import write_bytes, write_json, write_text

if TYPE_CHECKING:
    from models.training import FamilyTraining
    from pipelines.dataset import Dataset
    from pipelines.settings import Family

log = logging.getLogger(__name__)


def train(context: Context, family: Family) -> dict[str, Any]:
    """Train one family if there are trades enough; each model becomes an evaluation, an ONNX file, a card and an importance.

    Whatever goes wrong with a model or with the whole family is written down instead of raised, so
    that the other families go on; the run that calls this ends with a failure all the same.
    """
    from flows.tables import write_tables
    from models.families import FAMILIES
    from models.ladder import rungs
    from pipelines import dataset as datasets

    data = datasets.read(context.layout.dataset)
    spec = FAMILIES[family]
    layout = context.layout
    # The scores go first and come last: models without scores are of an unfinished run, and nothing reads them.
    layout.training(family).unlink(missing_ok=True)
    for folder in (layout.models(family), layout.plots(family)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    write_tables(layout.plots(family), (), data, context.settings.report.reliability_bins)  # DVC wants the files, be they empty
    content: dict[str, Any] = {
        "family": family,
        "title": spec.title,
        "state": "trained",
        "reason": "",
        "dataset_hash": data.content_hash,
        "failures": {},
        "models": {},
        "tuned": {},
    }
    (rung,) = rungs(len(data), (family,), context.settings.ladder)
    try:
        if rung.open:
            _train(context, family, data, content)
        else:
            content |= {"state": "not yet", "reason": rung.sentence}
    except AmiralError as error:
        content |= {"state": "failed", "reason": str(error), "models": {}}
    except Exception as error:
        # The other families must not pay for a fault in this one; the log has the details.
        log.exception("training %s failed", family)
        content |= {"state": "failed", "reason": f"{type(error).__name__}: {error}", "models": {}}
    if content["state"] == "trained" and not content["models"]:
        content |= {"state": "failed", "reason": "every model of the family failed"}
    write_json(layout.training(family), content)
    return content


def failures(trainings: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What failed, by family or by family and target; a family that has too few trades has not failed."""
    found: dict[str, str] = {}
    for training in trainings:
        if training["state"] == "failed":
            found[training["family"]] = training["reason"]
        found |= {f"{training['family']}/{target}": reason for target, reason in training["failures"].items()}
    return found


def tune(context: Context, families: Sequence[Family], targets: Sequence[str]) -> list[dict[str, Any]]:
    """Search parameters of every named model that the ladder lets train; a stopped search goes on."""
    from models.families import FAMILIES
    from models.ladder import rungs
    from models.tuning import tune as search
    from pipelines import dataset as datasets

    data = datasets.read(context.layout.dataset)
    found: list[dict[str, Any]] = []
    for rung in rungs(len(data), families, context.settings.ladder):
        if not rung.open:
            context.reporter.say(f"{rung.sentence}: not tuned")
            continue
        for model in FAMILIES[rung.family].models:
            if targets and model.target not in targets:
                continue
            with context.reporter.step(f"Tuning {rung.title}, {model.target}") as advance:
                result = search(
                    data,
                    rung.family,
                    model.target,
                    context.settings,
                    context.layout.tuning(rung.family) / model.target,
                    progress=_told(advance),
                )
            best, default = result.best, result.default
            found.append(
                {
                    "family": rung.family,
                    "target": model.target,
                    "trials": len(result.trials),
                    "finished": result.finished,
                    "default_value": None if default is None else default.value,
                    "best_value": None if best is None else best.value,
                    "best_trial": None if best is None else best.number,
                    "parameters": {} if best is None else best.parameters,
                    "folder": str(result.folder),
                }
            )
    return found


def _told(advance: Advance) -> Callable[[str, int, int], None]:
    """Progress of the models layer in the terms of a step."""
    return lambda text, done, total: advance(done, total, text)


def _train(context: Context, family: Family, data: Dataset, content: dict[str, Any]) -> None:
    from flows.tables import write_tables
    from models.ensemble import MEMBERS
    from models.families import FAMILIES
    from models.training import train_family
    from models.tuning import tuned_parameters
    from pipelines.splits import embargo_ns, temporal_split

    settings = context.settings
    title = FAMILIES[family].title
    split = temporal_split(data.start, data.end, settings.splits)
    before = int(data.start[split.test[0]]) - embargo_ns(settings.splits)
    tuned: dict[str, dict[Family, dict[str, float]]] = {model.target: {} for model in FAMILIES[family].models}
    sources = tuple(sorted(data.card["sources"]))
    for name in (MEMBERS if family == "ensemble" else (family,)) if settings.tuning.use else ():
        present = getattr(settings.train, name).model_dump()
        found = tuned_parameters(context.layout.tuning(name), name, tuple(tuned), before_ns=before, present=present, sources=sources)
        for target, parameters in found.items():
            tuned[target][name] = parameters
    content["tuned"] = {target: parameters for target, parameters in tuned.items() if parameters}
    if content["tuned"]:
        context.reporter.say(f"{title}: parameters of `amiral tune` for {', '.join(content['tuned'])}")
    with context.reporter.step(f"Training {title} on {len(data):,} trades") as advance:
        trained = train_family(data, family, settings, tuned=tuned, progress=_told(advance))
    content["failures"] |= {failure.target: failure.reason for failure in trained.failures}
    with context.reporter.step(f"Exporting and explaining {title}") as advance:
        _keep(context, data, trained, content, advance)
    evaluations = [model.evaluation for model in trained.models]
    write_tables(context.layout.plots(family), evaluations, data, settings.report.reliability_bins)


def _keep(context: Context, data: Dataset, trained: FamilyTraining, content: dict[str, Any], advance: Advance) -> None:
    """Export, explain and write every model; one that cannot be is a failure of its own."""
    from models.explain import explain
    from models.export import package

    settings, family = context.settings, trained.family
    for number, model in enumerate(trained.models):
        target = model.evaluation.target
        advance(number, len(trained.models), target)
        try:
            packed = package(model, data, settings, git_commit=code_version())
            importance = explain(model.estimator, packed, model.evaluation, data, settings)
        except Exception as error:
            log.exception("exporting %s/%s failed", family, target)
            content["failures"][target] = str(error) if isinstance(error, AmiralError) else f"{type(error).__name__}: {error}"
            continue
        folder = context.layout.models(family) / target
        write_text(folder / EVALUATION_FILE, model.evaluation.to_json())
        write_bytes(folder / MODEL_FILE, packed.onnx)
        write_text(folder / CARD_FILE, packed.card.to_json())
        write_text(folder / IMPORTANCE_FILE, importance.to_json())
        content["models"][target] = {
            "test_score": model.evaluation.test_score,
            "validation_score": model.evaluation.validation_score,
            "train_score": model.evaluation.train_score,
            "fold_scores": list(model.evaluation.fold_scores),
            "parity": packed.parity,
            **model.evaluation.calibration,
        }
