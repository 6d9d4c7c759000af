"""Results on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from flows.summary import UNCHANGED, RunSummary

_SMALL = 6
"""Items of a list or map that are still written on one line."""

_FEW = 3
"""Models whose gates are all printed without being asked for: they fit on a screen or two."""

_NAMED = 2
"""Refusing gates that the table of models names; the report has the others."""

_NAME_WIDTH = 19
"""Columns of a model's name that a narrow terminal keeps: the longest target."""

_STATES = {"trained": "green", "not yet": "dim", "failed": "red", "partly failed": "red"}
_STATE_WIDTH = 2 + max(len(state) for state in _STATES)


def show_summary(summary: RunSummary) -> None:
    """Print one screen: what was promoted, what came of each family, a line per model, where the report lies."""
    console = Console(highlight=False)
    console.print(f"[bold]{escape(summary.headline)}[/bold]", soft_wrap=True)
    for rung in summary.ladder:
        _ladder_line(console, rung["title"], rung["state"], rung["sentence"])
    if summary.models:
        _models(console, summary.models)
    if not any(model["candidate"] for model in summary.models):
        console.print(UNCHANGED)
    console.print(f"Trades: {summary.trades:,}  quality: {summary.grade}  dataset: {summary.dataset_hash[:12] or '-'}")
    console.print(f"Report: {summary.report.as_uri()}", soft_wrap=True)


def show_verdicts(trainings: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]], *, verbose: bool = False) -> None:
    """Print what `amiral train` found; every gate of every model when they are few, or when asked for.

    Parameters
    ----------
    trainings
        What the train stage left of each family, simplest first.
    verdicts
        What the gate stage found.
    verbose
        Print the gates of many models, too.
    """
    console = Console(highlight=False)
    titles = {training["family"]: training["title"] for training in trainings}
    for training in trainings:
        for title, state, sentence in _training_lines(training):
            _ladder_line(console, title, state, sentence)
    if verbose or len(verdicts) <= _FEW:
        _gates(console, verdicts)
    else:
        # What stands in gates.json knows no order but the ladder's; a reviewer compares the families of one target.
        targets = list(dict.fromkeys(verdict["target"] for verdict in verdicts))
        ordered = sorted(verdicts, key=lambda verdict: targets.index(verdict["target"]))
        scores = {f"{training['family']}/{target}": found for training in trainings for target, found in training["models"].items()}
        _models(console, [_row(verdict, titles, scores[f"{verdict['family']}/{verdict['target']}"]) for verdict in ordered])
        console.print("Every gate with its reason: --verbose, or --json", style="dim")


def show_tuning(found: Sequence[Mapping[str, Any]]) -> None:
    """Print where every search stands, and what it would change."""
    console = Console(highlight=False)
    if not found:
        console.print("Nothing was tuned.")
        return
    table = Table(box=None, pad_edge=False)
    for name, justify in (("model", "left"), ("trials", "right"), ("default", "right"), ("best", "right"), ("parameters", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for item in found:
        values = [f"{item[key]:.4f}" if item[key] is not None else "-" for key in ("default_value", "best_value")]
        trials = f"{item['trials']}{'' if item['finished'] else ', to be continued'}"
        parameters = " ".join(f"{key}={value:.4g}" for key, value in item["parameters"].items())
        table.add_row(escape(f"{item['family']}/{item['target']}"), trials, *values, escape(parameters or "-"))
    console.print(table)
    console.print("The next training takes the best parameters.")


def show_facts(title: str, content: Mapping[str, Any]) -> None:
    """Print a flat or nested map as a two-column table."""
    table = Table(title=escape(title), show_header=False, title_justify="left", box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for key, value in _rows("", content):
        table.add_row(escape(key), escape(value))
    Console(highlight=False).print(table)


def _ladder_line(console: Console, title: str, state: str, sentence: str) -> None:
    """One line, however long the reason; what matters stands at its beginning, and all of it in the report."""
    said = " ".join(sentence.removeprefix(f"{title}: ").split())
    line = Text.assemble("  ", (f"{state:<{_STATE_WIDTH}}", _STATES[state]), (f"{title}: ", "bold"), said)
    console.print(line, no_wrap=True, overflow="ellipsis", crop=True)


def _training_lines(training: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    title, state, count = training["title"], training["state"], len(training["models"])
    failures = [(f"{title} {_words(target)}", "failed", reason) for target, reason in training["failures"].items()]
    if state != "trained":
        return [(title, state, training["reason"]), *failures]
    return [(title, "partly failed" if failures else state, f"{count} {'model' if count == 1 else 'models'}"), *failures]


def _row(verdict: Mapping[str, Any], titles: Mapping[str, str], scores: Mapping[str, Any]) -> dict[str, Any]:
    folds = [score for score in scores["fold_scores"] if score is not None and score == score]
    mean = sum(folds) / len(folds) if folds else None
    deviation = (sum((score - mean) ** 2 for score in folds) / (len(folds) - 1)) ** 0.5 if mean is not None and len(folds) > 1 else None
    return {
        "title": titles[verdict["family"]],
        "target": verdict["target"],
        "out_of_fold": mean,
        "deviation": deviation,
        "test_score": scores["test_score"],
        "best": False,
        "candidate": verdict["candidate"],
        "refused_by": [gate["name"] for gate in verdict["gates"] if not gate["passed"]],
        "version": None,
    }


def _models(console: Console, models: Sequence[Mapping[str, Any]]) -> None:
    """One line per model under a line with its target; only names and verdicts give way on a narrow terminal, numbers never."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), expand=False)
    table.add_column("model", no_wrap=True, overflow="ellipsis", min_width=_NAME_WIDTH)
    table.add_column("out of fold", no_wrap=True, min_width=len("-0.123 ±0.123 *"))
    table.add_column("test", justify="right", no_wrap=True, min_width=len("-0.123"))
    table.add_column("verdict", no_wrap=True, overflow="ellipsis")
    above = None
    for model in models:
        if model["target"] != above:
            above = model["target"]
            table.add_row(Text(_words(above), style="bold"))
        spread = "" if model["deviation"] is None else f" ±{model['deviation']:.3f}"
        table.add_row(
            Text(f"  {model['title']}"),
            f"{_score(model['out_of_fold'])}{spread}{' *' if model['best'] else ''}",
            _score(model["test_score"]),
            _verdict(model),
        )
    console.print(table)
    if any(model["best"] for model in models):
        console.print("* highest out of fold of its target, no decision", style="dim")


def _verdict(model: Mapping[str, Any]) -> Text:
    if model["candidate"]:
        return Text("candidate" + ("" if model["version"] is None else f", version {model['version']}"), style="green")
    gates = [_words(name) for name in model["refused_by"]]
    more = f" +{len(gates) - _NAMED}" if len(gates) > _NAMED else ""
    return Text.assemble(("refused", "yellow"), f" {', '.join(gates[:_NAMED])}{more}")


def _score(value: float | None) -> str:
    return "-" if value is None or value != value else f"{round(value, 3) + 0.0:.3f}"


def _words(name: str) -> str:
    return " ".join("PnL" if part == "pnl" else part for part in str(name).split("_"))


def _gates(console: Console, verdicts: Sequence[Mapping[str, Any]]) -> None:
    for verdict in verdicts:
        state = "[green]candidate[/green]" if verdict["candidate"] else "[yellow]refused[/yellow]"
        table = Table(title=f"{escape(verdict['target'])} ({escape(verdict['family'])}): {state}", title_justify="left", expand=False)
        table.add_column("gate")
        table.add_column("value", justify="right")
        table.add_column("limit", justify="right")
        table.add_column("")
        table.add_column("reason", overflow="fold")
        for gate in verdict["gates"]:
            value = "-" if gate["value"] is None else f"{gate['value']:.4g}"
            mark = "[green]pass[/green]" if gate["passed"] else "[red]fail[/red]"
            table.add_row(escape(gate["name"]), value, escape(gate["limit"]), mark, escape(gate["reason"]))
        console.print(table)


def _rows(prefix: str, content: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            rows.extend(_rows(f"{name}.", value))
        elif isinstance(value, list | tuple) and len(value) > _SMALL:
            rows.append((name, f"{len(value)} items; see --json"))
        elif isinstance(value, list | tuple):
            rows.append((name, "; ".join(str(item) for item in value) or "-"))
        elif isinstance(value, float):
            rows.append((name, f"{value:,.4g}"))
        elif isinstance(value, int) and not isinstance(value, bool):
            rows.append((name, f"{value:,}"))
        else:
            rows.append((name, "-" if value is None else str(value)))
    return rows
