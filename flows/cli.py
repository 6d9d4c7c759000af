"""The `amiral` command.

Heavy libraries are imported inside the commands, so that `amiral --help` answers at once.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.errors import AmiralError, DataRefusedError, InputError

app = typer.Typer(
    name="amiral",
    help="Retrain, judge and register the models that score the Battle Navale bot's signals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
stage_app = typer.Typer(help="One stage at a time, as dvc.yaml calls them.", no_args_is_help=True)
app.add_typer(stage_app, name="stage", hidden=True)

FAILED, REFUSED, INTERRUPTED = 1, 3, 130
"""Exit statuses of a run that failed and of data that a gate refused; 2 is a wrong command line, 130 Ctrl-C, 0 all the rest."""

INTERRUPT_GRACE_S = 5.0
"""Seconds that Prefect is given to close a run after Ctrl-C."""

ParamsOption = Annotated[Path | None, typer.Option("--params", help="Settings file; default: params.yaml here, else the project's.")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Folder for everything that is written; default: paths.data.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-S", help="Change one setting for this run: section.key=value.")]
BarsOption = Annotated[Path | None, typer.Option("--bars", help="Folder with es_5m.parquet (+ nq_5m, vix_1d, option_chains_*).")]
SyntheticOption = Annotated[bool, typer.Option("--synthetic", help="Use the synthetic market whatever data/raw holds.")]
FamilyOption = Annotated[list[str] | None, typer.Option("--family", "-f", help="Only this family; may be given more than once.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


@dataclass(frozen=True)
class Invocation:
    """What the options of a command amount to."""

    settings: Any
    layout: Any

    def context(self, *, quiet: bool) -> Any:
        """Build what the stages are given, with the present time."""
        from flows.context import Context
        from flows.environment import prepare
        from flows.progress import Reporter

        prepare(self.layout)
        return Context(self.settings, self.layout, dt.datetime.now(dt.UTC), Reporter(quiet=quiet))


def _invocation(params: Path | None, data: Path | None, overrides: list[str] | None) -> Invocation:
    from pipelines.layout import DataLayout
    from pipelines.settings import DEFAULT_PARAMS, load_settings

    here = Path("params.yaml")
    path = (params or (here if here.is_file() else DEFAULT_PARAMS)).absolute()
    settings = load_settings(path, overrides or ())
    return Invocation(settings, DataLayout(data.absolute() if data else path.parent / settings.paths.data))


@app.command()
def run(
    bars: BarsOption = None,
    synthetic: SyntheticOption = False,
    params: ParamsOption = None,
    data: DataOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the nightly flow once: ingest, validate, features, dataset, train, gate, register, report."""
    from flows.lock import exclusive
    from flows.source import choose_source
    from pipelines.storage import require_space

    invocation = _invocation(params, data, overrides)
    source = choose_source(invocation.layout, bars, synthetic=synthetic)
    context = invocation.context(quiet=quiet)
    with exclusive(invocation.layout):
        require_space(invocation.layout.root, invocation.settings.paths.min_free_mb)
        from flows.nightly import run_nightly

        summary = run_nightly(context, source)
    if as_json:
        _print_json(summary.to_dict())
    else:
        from flows.console import show_summary

        show_summary(summary)
    _fail_on(summary.failures)


@app.command()
def replay(
    bars: BarsOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write the trades as JSONL, one file per trading day, into this folder.")
    ] = None,
    params: ParamsOption = None,
    data: DataOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Walk bars with the Battle Navale rules and write trade snapshots (bars of --bars, data/raw, or synthetic)."""
    from flows.lock import exclusive
    from flows.source import choose_source
    from flows.stages import current_trades, write_jsonl
    from flows.stages import ingest as ingest_stage

    invocation = _invocation(params, data, overrides)
    source = choose_source(invocation.layout, bars)
    if source.kind == "snapshots":
        source = choose_source(invocation.layout, invocation.layout.raw)
    context = invocation.context(quiet=quiet)
    with exclusive(invocation.layout):
        found = ingest_stage(context, source)
        if out is not None:
            context.reporter.say(f"{write_jsonl(current_trades(context), out)} files written to {out}")
    report = {"source": source.text, "notes": found["notes"], **found["replay"]}
    if as_json:
        _print_json(report)
    else:
        from flows.console import show_facts

        show_facts(f"Replay of {source.text}", report)


@app.command()
def ingest(
    sources: Annotated[list[Path] | None, typer.Argument(help="Files or folders of *.jsonl and *.parquet; default: data/raw.")] = None,
    params: ParamsOption = None,
    data: DataOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Take the bot's snapshots into the store; bad lines go to data/quarantine with the reason."""
    from flows.lock import exclusive
    from flows.stages import ingest_records

    invocation = _invocation(params, data, overrides)
    context = invocation.context(quiet=quiet)
    with exclusive(invocation.layout):
        wanted = sources or [invocation.layout.raw]
        report = ingest_records(context, wanted, f"snapshots of {', '.join(map(str, wanted))} and the store")["ingest"]
    if as_json:
        _print_json(report)
    else:
        from flows.console import show_facts

        show_facts("Ingest", report)


@app.command()
def train(
    family: FamilyOption = None,
    params: ParamsOption = None,
    data: DataOption = None,
    overrides: SetOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every gate of every model.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train and judge on the trades at hand, without registering anything."""
    from flows.lock import exclusive

    invocation = _invocation(params, data, [*(overrides or ()), *_only(family)])
    context = invocation.context(quiet=quiet)
    from flows import learning, stages

    with exclusive(invocation.layout):
        stages.features(context)
        stages.dataset(context)
        trainings = [learning.train(context, name) for name in context.settings.train.families]
        verdicts = stages.gate(context)
    if as_json:
        _print_json({"training": trainings, "verdicts": verdicts})
    else:
        from flows.console import show_verdicts

        show_verdicts(trainings, verdicts, verbose=verbose)
    _fail_on(learning.failures(trainings))


@app.command()
def tune(
    family: FamilyOption = None,
    target: Annotated[list[str] | None, typer.Option("--target", "-t", help="Only this model; may be given more than once.")] = None,
    params: ParamsOption = None,
    data: DataOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Search better parameters on the train part of the dataset; run it again to go on where it stopped."""
    from flows.lock import exclusive

    invocation = _invocation(params, data, [*(overrides or ()), *_only(family)])
    context = invocation.context(quiet=quiet)
    from flows import learning

    if family and "ensemble" in family:
        raise InputError("--family ensemble", limit="linear, forest, xgboost, lstm", remedy="tune its members; it takes their settings")
    with exclusive(invocation.layout):
        wanted = [name for name in context.settings.train.families if name != "ensemble"]
        found = learning.tune(context, wanted, _known_targets(target, wanted))
    if as_json:
        _print_json(found)
    else:
        from flows.console import show_tuning

        show_tuning(found)


@app.command()
def status(params: ParamsOption = None, data: DataOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Say what is there: trades, quality, last verdicts, candidates, latest report."""
    from flows.status import read_status

    invocation = _invocation(params, data, overrides)
    content = read_status(invocation.layout)
    if as_json:
        _print_json(content)
    else:
        from flows.console import show_facts

        show_facts(f"Status of {invocation.layout.root}", content)


@app.command()
def config(params: ParamsOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Print the effective settings."""
    settings = _invocation(params, None, overrides).settings.model_dump(mode="json")
    if as_json:
        _print_json(settings)
    else:
        import yaml

        print(yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=120), end="")


@app.command()
def schemas(folder: Annotated[Path, typer.Argument(help="Where to write them.")] = Path("docs/schemas")) -> None:
    """Write the JSON Schemas of the records that the bot sends."""
    from pipelines.contracts.json_schema import write_schemas

    write_schemas(folder)
    print(f"written to {folder}")


def _stage(name: str, help_text: str) -> None:
    def command(
        params: ParamsOption = None,
        data: DataOption = None,
        overrides: SetOption = None,
        bars: BarsOption = None,
        family: FamilyOption = None,
        quiet: QuietOption = False,
    ) -> None:
        from flows.lock import exclusive
        from flows.source import choose_source

        invocation = _invocation(params, data, [*(overrides or ()), *_only(family)])
        context = invocation.context(quiet=quiet)
        from flows import learning, stages

        with exclusive(invocation.layout):
            if name == "ingest":
                stages.ingest(context, choose_source(invocation.layout, bars))
            elif name == "train":
                # As a stage of DVC a failed family leaves its scores file, which says so, and the others go on.
                for one in invocation.settings.train.families:
                    for what, reason in learning.failures([learning.train(context, one)]).items():
                        print(f"failed: {what}: {reason}", file=sys.stderr)
            elif name == "report":
                _fail_on(stages.report(context).failures)
            else:
                getattr(stages, name)(context)

    stage_app.command(name, help=help_text)(command)


for _name, _help in {
    "ingest": "Snapshots from data/raw, or the replay of bars.",
    "validate": "The data-quality report; stops when the data are corrupted.",
    "features": "The twelve features and the window of bars.",
    "dataset": "Targets, label intervals, hash and card.",
    "train": "Folds, final models, ONNX and importance, of every family or of --family.",
    "gate": "A verdict on every model.",
    "register": "Candidates into the registry, the others as runs.",
    "drift": "Train part against test part.",
    "report": "The page.",
}.items():
    _stage(_name, _help)


def _only(families: list[str] | None) -> list[str]:
    """The setting that leaves these families only."""
    if not families:
        return []
    from pipelines.settings import FAMILIES

    unknown = sorted(set(families) - set(FAMILIES))
    if unknown:
        raise InputError(f"--family {', '.join(unknown)}", limit=f"of {', '.join(FAMILIES)}")
    return [f"train.families=[{', '.join(name for name in FAMILIES if name in families)}]"]


def _known_targets(targets: list[str] | None, families: list[Any]) -> list[str]:
    """Check names of models."""
    from models.families import FAMILIES

    known = list(dict.fromkeys(model.target for name in families for model in FAMILIES[name].models))
    unknown = sorted(set(targets or ()) - set(known))
    if unknown:
        raise InputError(f"--target {', '.join(unknown)}", limit=f"of {', '.join(known)}")
    return targets or []


def _fail_on(failures: Mapping[str, str]) -> None:
    """Say on standard error what failed, and end with the status of a failure."""
    for name, reason in failures.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    if failures:
        sys.exit(FAILED)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, sort_keys=True, default=str))


def _end_on_interrupt() -> None:
    """Let Ctrl-C end the process for certain.

    A terminal interrupts the whole process group, Prefect's server with it; the client may then
    wait for an answer for ever. What is on disk is complete at any moment, so leaving hard is safe.
    """

    def leave(_number: int, _frame: object) -> None:
        watchdog = threading.Timer(INTERRUPT_GRACE_S, os._exit, [INTERRUPTED])
        watchdog.daemon = True
        watchdog.start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, leave)


def main() -> None:
    """Run the command line; an error that a person can act on is one line, not a traceback."""
    _end_on_interrupt()
    try:
        app()
    except DataRefusedError as error:
        print(f"refused: {error}", file=sys.stderr)
        sys.exit(REFUSED)
    except AmiralError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
