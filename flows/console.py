"""Results on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.summary import RunSummary

_SMALL = 6
"""Items of a list or map that are still written on one line."""


def show_summary(summary: RunSummary) -> None:
    """Print one screen: data, gates, what was registered, where the report lies."""
    console = Console(highlight=False)
    console.print(f"[bold]{escape(summary.headline)}[/bold]", soft_wrap=True)
    for line in summary.details:
        console.print(f"  {escape(line)}", soft_wrap=True)
    _gates(console, summary.verdicts)
    console.print(f"Trades: {summary.trades:,}  quality: {summary.grade}  dataset: {summary.dataset_hash[:12] or '-'}")
    console.print(f"Report: {summary.report.as_uri()}", soft_wrap=True)


def show_verdicts(training: Mapping[str, Any], verdicts: Sequence[Mapping[str, Any]]) -> None:
    """Print what `amiral train` found."""
    console = Console(highlight=False)
    if not training["trained"]:
        console.print(f"Nothing was trained: {escape(training['reason'])}")
    _gates(console, verdicts)


def show_facts(title: str, content: Mapping[str, Any]) -> None:
    """Print a flat or nested map as a two-column table."""
    table = Table(title=escape(title), show_header=False, title_justify="left", box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for key, value in _rows("", content):
        table.add_row(escape(key), escape(value))
    Console(highlight=False).print(table)


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
