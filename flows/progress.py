"""Progress of long work: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

LINE_EVERY_S = 5.0
"""Seconds between two plain lines of one step, where there is no terminal to draw a bar on."""


class Advance(Protocol):
    """Told how far a step is."""

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Take steps done, steps in all (0: unknown), and what was just done."""


def ignore(done: int, total: int, text: str = "") -> None:
    """Report nothing."""


@dataclass
class Reporter:
    """Tells a person what is going on, on standard error, so that standard output stays for results."""

    quiet: bool = False
    clock: Callable[[], float] = time.monotonic
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
            yield self._lines(title)

    def _lines(self, title: str) -> Advance:
        """Tell now and then how far a long step is, in plain lines."""
        begin = told = self.clock()

        def advance(done: int, total: int, text: str = "") -> None:
            nonlocal told
            now = self.clock()
            if not total or done >= total or now - told < LINE_EVERY_S:
                return
            told = now
            left = (now - begin) / max(done, 1) * (total - done)
            self.say(f"{title}: {done} of {total}{f' ({text})' if text else ''}, about {left:.0f} s left")

        return advance

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

            def advance(done: int, total: int, text: str = "") -> None:
                progress.update(task, completed=done, total=total or None, description=f"{title}: {text}" if text else title)

            yield advance
            progress.update(task, total=1, completed=1)
