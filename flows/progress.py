"""Progress of long work: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Advance = Callable[[int, int], None]
"""Called with (done, total); total 0 means unknown."""


def ignore(done: int, total: int) -> None:
    """Report nothing."""


@dataclass
class Reporter:
    """Tells a person what is going on, on standard error, so that standard output stays for results."""

    quiet: bool = False
    _terminal: bool = field(default_factory=sys.stderr.isatty)

    def say(self, text: str) -> None:
        """Print one line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Advance]:
        """Show one piece of work; the callback that it yields moves the bar."""
        if self.quiet:
            yield ignore
        elif self._terminal:
            yield from self._bar(title)
        else:
            self.say(f"{title} ...")
            yield ignore

    def _bar(self, title: str) -> Iterator[Advance]:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(title, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total or None)
            progress.update(task, total=1, completed=1)
