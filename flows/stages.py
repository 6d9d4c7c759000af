"""The stages as plain functions: each reads what the stage before wrote and writes its own files.

Those that learn are in `flows/learning.py`. The Prefect flow and the DVC pipeline both call these, so they give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.context import (
    IMPORTANCE_FILE,
    OUTCOMES_FILE,
    SIGNALS_FILE,
    Context,
    read_evaluation,
    read_importance,
    read_json,
    read_package,
    read_trainings,
    read_verdicts,
    run_id,
)
from flows.source import Source, snapshot_files
from flows.version import code_version
from pipelines.contracts.tables import OutcomeTable, SignalTable, Trades, join
from pipelines.errors import DataRefusedError, InputError
from pipelines.storage import write_bytes, write_json, write_text

if TYPE_CHECKING:
    from flows.summary import RunSummary
    from models.explain import Importance
    from models.registry import Registry, RegistryEntry, Submission
    from models.results import Verdict
    from pipelines.baseline.replay import ReplayResult
    from pipelines.dataset import Dataset
    from pipelines.market.inputs import MarketInputs


def ingest(context: Context, source: Source) -> dict[str, Any]:
    """Bring the closed trades together: from the bot's snapshots, or from the replay of bars."""
    if source.kind == "snapshots":
        return ingest_records(context, snapshot_files(context.layout.raw), source.text)
    result, notes = replay_source(context, source)
    found = {"source": source.text, "kind": source.kind, "notes": list(notes), "replay": result.report.to_dict(), "ingest": None}
    return _leave(context, join(result.signals, result.outcomes), found)


def ingest_records(context: Context, sources: Sequence[Path], text: str) -> dict[str, Any]:
    """Merge files and folders of records into the store; its closed trades become those of the present run."""
    from pipelines.snapshots.ingest import ingest as ingest_files
    from pipelines.snapshots.store import SnapshotStore

    store = SnapshotStore(context.layout.snapshots)
    with context.reporter.step("Ingesting snapshots") as advance:
        report = ingest_files(sources, store, context.layout.quarantine, context.settings.snapshots, progress=advance)
    found: dict[str, Any] = {"source": text, "kind": "snapshots", "notes": [], "replay": None, "ingest": report.to_dict()}
    return _leave(context, store.trades(), found)


def replay_source(context: Context, source: Source) -> tuple[ReplayResult, tuple[str, ...]]:
    """Walk a market with the rules; returns its trades and what is to be said of the bars."""
    from pipelines.baseline.replay import replay
    from pipelines.market.frame import build_market

    with context.reporter.step(f"Building the market from {source.text}"):
        inputs = market_inputs(context, source)
        market = build_market(inputs, context.settings)
    with context.reporter.step(f"Replaying {len(market):,} bars"):
        result = replay(market, context.settings)
    return result, inputs.notes


def market_inputs(context: Context, source: Source) -> MarketInputs:
    """Read the bars of a folder, or make the synthetic market; refused rows go to the quarantine."""
    from pipelines.market.source import read_folder
    from pipelines.market.synthetic import synthesise

    if source.folder is None:
        return synthesise(context.settings, context.settings.seed)
    inputs = read_folder(source.folder, context.settings)
    path = context.layout.quarantine / "bars.jsonl"
    if len(inputs.quarantined):
        write_text(path, inputs.quarantined.to_json(orient="records", lines=True, date_format="iso"))
    else:
        path.unlink(missing_ok=True)
    return inputs


def write_jsonl(trades: Trades, folder: Path) -> int:
    """Write trades as the bot would, one file of whole snapshots per UTC day; returns the number of files."""
    import orjson

    lines: dict[str, list[bytes]] = {}
    for signal, outcome in zip(trades.signals.to_dicts(), trades.outcomes.to_dicts(), strict=True):
        day = signal["decision_time"][:10]
        lines.setdefault(day, []).append(orjson.dumps({"signal": signal, "outcome": outcome}))
    for day, content in lines.items():
        write_bytes(folder / f"{day}.jsonl", b"\n".join(content) + b"\n")
    return len(lines)


def current_trades(context: Context) -> Trades:
    """Read the closed trades that the last ingest stage left.

    Raises
    ------
    InputError
        Nothing has been ingested yet.
    """
    folder = context.layout.trades
    try:
        return Trades(SignalTable.read(folder / SIGNALS_FILE), OutcomeTable.read(folder / OUTCOMES_FILE))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no trades", remedy="run `amiral run`, or `amiral replay`, first") from None


def validate(context: Context) -> dict[str, Any]:
    """Grade the data; write the report first, then refuse what is corrupted."""
    from pipelines.features.twelve import FEATURES, compute
    from pipelines.quality import assess, refuse_if_corrupted

    with context.reporter.step("Checking the data"):
        trades = current_trades(context)
        features = compute(trades.signals, context.settings.features)
        report = assess(trades, features, FEATURES, _ingested(context)["ingest"] or {}, context.settings)
    write_json(context.layout.quality, report.to_dict())
    refuse_if_corrupted(report)
    return report.to_dict()


def features(context: Context) -> dict[str, Any]:
    """The twelve features and the window of bars of every closed trade."""
    from pipelines.features import files
    from pipelines.features.twelve import FEATURE_VERSION, compute
    from pipelines.features.window import WINDOW_VERSION, compute_windows

    with context.reporter.step("Computing the features"):
        signals = current_trades(context).signals
        values, windows = compute(signals, context.settings.features), compute_windows(signals)
    files.write(context.layout.features, signals, values, windows, context.settings.features)
    return {"trades": len(signals), "feature_version": FEATURE_VERSION, "window_version": WINDOW_VERSION}


def dataset(context: Context) -> dict[str, Any]:
    """Features, targets and label intervals of every closed trade, with hash and card."""
    from pipelines import dataset as datasets
    from pipelines.features import files

    with context.reporter.step("Building the dataset"):
        trades = current_trades(context)
        values, windows = files.read(context.layout.features, trades.signals, context.settings.features)
        built = datasets.build(trades, values, windows, context.settings, code_version=code_version())
    datasets.write(built, context.layout.dataset)
    return built.card


def gate(context: Context) -> list[dict[str, Any]]:
    """Hold every trained model against every gate, simplest family first, so that each knows whom it has to beat."""
    from models.gates.battery import judge
    from models.ladder import incumbent
    from models.results import Evaluation
    from pipelines import dataset as datasets

    data = datasets.read(context.layout.dataset)
    trainings = read_trainings(context)
    total = sum(len(training["models"]) for training in trainings)
    verdicts: list[dict[str, Any]] = []
    below: list[tuple[Evaluation, bool]] = []
    with context.reporter.step("Judging") as advance:
        for training in trainings:
            judged: list[tuple[Evaluation, bool]] = []
            for target, scores in training["models"].items():
                evaluation = read_evaluation(context, training["family"], target)
                rival = incumbent(evaluation, below)
                verdict = judge(evaluation, data, context.settings, parity=scores["parity"], rival=rival)
                verdicts.append(asdict(verdict) | {"candidate": verdict.candidate})
                judged.append((evaluation, verdict.candidate))
                advance(len(verdicts), total, evaluation.name)
            below += judged
    write_json(context.layout.gates, verdicts)
    content: list[dict[str, Any]] = read_json(context.layout.gates)
    return content


def drift(context: Context) -> dict[str, Any]:
    """Compare the features of the test part with those of the train part (Evidently)."""
    from pipelines import dataset as datasets
    from pipelines.drift.evidently_report import drift_report
    from pipelines.splits import temporal_split

    data = datasets.read(context.layout.dataset)
    page = context.layout.drift / "index.html"
    page.unlink(missing_ok=True)
    content: dict[str, Any] = {"compared": False, "reason": ""}
    with context.reporter.step("Comparing the test part with the train part"):
        try:
            split = temporal_split(data.start, data.end, context.settings.splits)
        except (DataRefusedError, InputError) as error:
            content["reason"] = str(error)
        else:
            frame = data.frame[[f"feature.{name}" for name in data.feature_names]].set_axis(list(data.feature_names), axis=1)
            summary = drift_report(frame.iloc[split.train], frame.iloc[split.test], context.settings.drift, page)
            content = {"compared": True, "reason": "", **asdict(summary)}
    write_json(context.layout.drift / "drift.json", content)
    return content


def register(context: Context) -> list[dict[str, Any]]:
    """Record every model as a run; one that passed every gate becomes a version with the alias `candidate`."""
    from models.registry import Registry
    from pipelines import dataset as datasets

    content: list[dict[str, Any]] = []
    verdicts = read_verdicts(context)
    if verdicts:
        with context.reporter.step("Recording in MLflow"):
            data = datasets.read(context.layout.dataset)
            registry = Registry(context.layout.mlflow, context.settings.registry)
            trainings = {training["family"]: training for training in read_trainings(context)}
            submissions = [_submission(context, data, verdict, trainings[verdict.family]) for verdict in verdicts]
            entries = registry.record(
                submissions, dataset_card=data.card, settings=context.settings, run_name=run_id(context, data.content_hash)
            )
            # Asked for after recording, and by number: a run that is repeated finds the same previous versions.
            first: dict[str, int | None] = {}
            for entry in reversed(entries):
                first[entry.target] = entry.version or first.get(entry.target)
            before = {target: _previous(registry, target, below=number) for target, number in first.items()}
            for entry in entries:
                compared = _shifts(context, entry.family, entry.target, before[entry.target])
                content.append(asdict(entry) | {"outcome": _outcome(entry), **compared})
    write_json(context.layout.registered, content)
    return content


def _submission(context: Context, data: Dataset, verdict: Verdict, training: Mapping[str, Any]) -> Submission:
    from flows.report.pictures import pictures
    from models.registry import Submission

    evaluation = read_evaluation(context, verdict.family, verdict.target)
    importance = read_importance(context, verdict.family, verdict.target)
    parity = training["models"][verdict.target]["parity"]
    packed = read_package(context, verdict.family, verdict.target, parity)
    files = pictures(evaluation, importance, data, context.settings.report)
    files[IMPORTANCE_FILE] = importance.to_json().encode()
    return Submission(evaluation, verdict, packed, files)


def _previous(registry: Registry, target: str, *, below: int | None) -> tuple[int, Importance] | None:
    """Number and importance of the newest version below a number, of the newest at all without one."""
    from models.explain import Importance

    found = registry.newest_importance(target, below=below)
    return None if found is None else (found[0], Importance.from_json(found[1]))


def _shifts(context: Context, family: str, target: str, previous: tuple[int, Importance] | None) -> dict[str, Any]:
    from models.explain import shifts

    current = read_importance(context, family, target)
    if previous is None:
        return {"previous": None, "shifts": []}
    return {"previous": previous[0], "shifts": [asdict(shift) for shift in shifts(current, previous[1], context.settings.explain)]}


def report(context: Context) -> RunSummary:
    """Write the page of this run."""
    from flows.report.compose import compose

    with context.reporter.step("Writing the report"):
        return compose(context)


def _ingested(context: Context) -> dict[str, Any]:
    content: dict[str, Any] = read_json(context.layout.ingest)
    return content


def _leave(context: Context, trades: Trades, found: dict[str, Any]) -> dict[str, Any]:
    trades.signals.write(context.layout.trades / SIGNALS_FILE)
    trades.outcomes.write(context.layout.trades / OUTCOMES_FILE)
    write_json(context.layout.ingest, found)
    return found


def _outcome(entry: RegistryEntry) -> str:
    """Say in words what the registry did."""
    if entry.version is None:
        return f"kept as run {entry.run_id[:8]}, not registered"
    return f"version {entry.version} of {entry.model_name}" + (", registered before" if entry.existing else "")
