"""How far a migration is, on standard error: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opencode_monitor.cli.render import console, note
from opencode_monitor.db.progress import Estimate, Phase, PhaseLines, describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opencode_monitor.db.progress import Show


@contextmanager
def shown_phases(*, quiet: bool) -> Iterator[Show]:
    """Yield what shows the phases of a migration for as long as it runs.

    Args:
        quiet: Show nothing.
    """
    if quiet:
        yield lambda _phases, _current: None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        lines = PhaseLines(lambda line: note(f"  {line}"))
        try:
            yield lines
        finally:
            lines.close()


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415 - on a terminal only

    estimate = Estimate()
    phase = Phase("", 0)

    class Bar(Progress):
        """A bar that asks the estimate each time it is drawn: a phase is one statement, during which nobody can tell it anything."""

        def get_renderables(self):  # type: ignore[no-untyped-def]
            """Draw the state of this moment."""
            for task in self.tasks:
                task.total, task.completed, task.description = estimate.total, estimate.done, describe(phase, estimate)
            return super().get_renderables()

    bar = Bar(BarColumn(), TextColumn("{task.description}"), console=console(stderr=True), transient=True)

    def show(phases: Sequence[Phase], current: int) -> None:
        nonlocal phase
        estimate.begin(phases, current)
        if current < len(phases):
            phase = phases[current]
            if not bar.tasks:
                bar.add_task("", total=None)

    with bar:
        yield show
