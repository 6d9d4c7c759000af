"""The stages as plain functions: each reads what the stage before wrote and writes its own files.

The Prefect flow and the DVC pipeline both call these, so they give the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.context import (
    CARD_FILE,
    EVALUATION_FILE,
    MODEL_FILE,
    OUTCOMES_FILE,
    SIGNALS_FILE,
    Context,
    read_evaluation,
    read_json,
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
    from models.registry import RegistryEntry
    from pipelines.baseline.replay import ReplayResult
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


def dataset(context: Context) -> dict[str, Any]:
    """Features, targets and label intervals of every closed trade, with hash and card."""
    from pipelines import dataset as datasets
    from pipelines.features.twelve import compute

    with context.reporter.step("Building the dataset"):
        trades = current_trades(context)
        features = compute(trades.signals, context.settings.features)
        built = datasets.build(trades, features, context.settings, code_version=code_version())
    datasets.write(built, context.layout.dataset)
    return built.card


def train(context: Context) -> dict[str, Any]:
    """Train what the number of trades allows; each model becomes an evaluation, an ONNX file and a card."""
    from models.export import package
    from models.training import train as train_models
    from pipelines import dataset as datasets

    data = datasets.read(context.layout.dataset)
    folder = context.layout.models
    # The scores go first and come last: models without scores are of an unfinished run, and nothing reads them.
    context.layout.training.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    content: dict[str, Any] = {"trained": False, "reason": "", "dataset_hash": data.content_hash, "models": {}}
    with context.reporter.step(f"Training on {len(data):,} trades") as advance:
        try:
            trained = train_models(data, context.settings, progress=lambda _, done, total: advance(done, total))
        except DataRefusedError as error:
            trained = ()
            content["reason"] = str(error)
        for model in trained:
            target = model.evaluation.target
            packed = package(model, data, context.settings, git_commit=code_version())
            write_text(folder / target / EVALUATION_FILE, model.evaluation.to_json())
            write_bytes(folder / target / MODEL_FILE, packed.onnx)
            write_text(folder / target / CARD_FILE, packed.card.to_json())
            content["models"][target] = {
                "test_score": model.evaluation.test_score,
                "validation_score": model.evaluation.validation_score,
                "train_score": model.evaluation.train_score,
                "fold_scores": list(model.evaluation.fold_scores),
                "parity": packed.parity,
            }
    content["trained"] = bool(trained)
    write_json(context.layout.training, content)
    return content


def gate(context: Context) -> list[dict[str, Any]]:
    """Hold every trained model against every gate."""
    from models.gates.battery import judge
    from pipelines import dataset as datasets

    data = datasets.read(context.layout.dataset)
    models = read_json(context.layout.training)["models"]
    verdicts = []
    with context.reporter.step("Judging") as advance:
        for number, (target, scores) in enumerate(models.items()):
            verdict = judge(read_evaluation(context, target), data, context.settings, parity=scores["parity"])
            verdicts.append(asdict(verdict) | {"candidate": verdict.candidate})
            advance(number + 1, len(models))
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
    from models.artifact import Card, Package
    from models.registry import Registry, Submission
    from pipelines import dataset as datasets

    content: list[dict[str, Any]] = []
    submissions = []
    for verdict in read_verdicts(context):
        folder = context.layout.models / verdict.target
        parity = read_json(context.layout.training)["models"][verdict.target]["parity"]
        packed = Package((folder / MODEL_FILE).read_bytes(), Card.from_json((folder / CARD_FILE).read_bytes()), parity)
        submissions.append(Submission(read_evaluation(context, verdict.target), verdict, packed))
    if submissions:
        with context.reporter.step("Recording in MLflow"):
            data = datasets.read(context.layout.dataset)
            entries = Registry(context.layout.mlflow, context.settings.registry).record(
                submissions, dataset_card=data.card, settings=context.settings, run_name=run_id(context, data.content_hash)
            )
            content = [asdict(entry) | {"outcome": _outcome(entry)} for entry in entries]
    write_json(context.layout.registered, content)
    return content


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
