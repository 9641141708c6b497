"""How far a migration is: its phases with the rows that each takes, and about how long the rest will take.

A revision announces its phases by `plan_phases` and `start_phase` of `db.migrate`; who runs the migration gives a `Show` to be told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

COMMIT = "commit"

SECONDS_BETWEEN_LINES = 10.0
_ALMOST = 0.95  # of its work is as much as a phase that still runs is taken to have done
_MINUTE = 60


class Phase(NamedTuple):
    """One phase of a migration, and how many rows it takes; 0 where it does not depend on their number."""

    name: str
    rows: int


Show = Callable[[Sequence[Phase], int], None]
"""Called with all phases and the index of the one that begins; with their number when all are done."""


class PhaseReport:
    """The phases of the revision that runs, told on to whoever shows them.

    Args:
        show: Is called when a phase begins, and at the end.
    """

    def __init__(self, show: Show) -> None:
        self._show = show
        self._phases: list[Phase] = []
        self._current = 0

    def plan(self, phases: Sequence[Phase]) -> None:
        """Announce the phases, of which the first begins; the commit is added. Nothing is shown where no phase has a row."""
        self._phases = [*phases, Phase(COMMIT, max((phase.rows for phase in phases), default=0))]
        if not any(phase.rows for phase in phases):
            self._phases = []
            return
        self._begin(0)

    def start(self, name: str) -> None:
        """Begin a phase; a name that was not announced is passed over."""
        for index in range(self._current + 1, len(self._phases)):
            if self._phases[index].name == name:
                self._begin(index)
                return

    def finish(self) -> None:
        """Tell that everything is done."""
        if self._phases:
            self._begin(len(self._phases))
            self._phases = []

    def _begin(self, index: int) -> None:
        self._current = index
        self._show(self._phases, index)


class Estimate:
    """Progress as a share of the work, by the rows that are done and the time that they took.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = self._phase_started = clock()
        self._total = self._before = self._phase_rows = 0

    def begin(self, phases: Sequence[Phase], current: int) -> None:
        """Note that a phase begins."""
        self._phase_started = self._clock()
        if current == 0:
            self._started = self._phase_started
        self._total = sum(phase.rows for phase in phases)
        self._before = sum(phase.rows for phase in phases[:current])
        self._phase_rows = phases[current].rows if current < len(phases) else 0

    @property
    def seconds(self) -> float:
        """How long the phases have run."""
        return self._clock() - self._started

    @property
    def done(self) -> float:
        """Rows done, of `total`; inside a phase as many as its time allows at the speed so far."""
        speed = self._speed()
        inside = 0.0 if speed is None else min(speed * (self._clock() - self._phase_started), _ALMOST * self._phase_rows)
        return self._before + inside

    @property
    def total(self) -> int:
        """Rows of all phases together: a row counts once in each phase that takes it."""
        return self._total

    @property
    def seconds_left(self) -> float | None:
        """About how long the rest takes, or None while nothing is done by which to tell."""
        speed = self._speed()
        return None if speed is None else (self._total - self.done) / speed

    def _speed(self) -> float | None:
        spent = self._phase_started - self._started
        return self._before / spent if self._before and spent > 0 else None


class PhaseLines:
    """Progress where no terminal is: a line when the work begins, one every ten seconds while it lasts, and one at its end.

    Args:
        write: Takes one line.
        seconds_between: How long to wait between two lines.
    """

    def __init__(self, write: Callable[[str], None], *, seconds_between: float = SECONDS_BETWEEN_LINES) -> None:
        self._write = write
        self._seconds_between = seconds_between
        self._estimate = Estimate()
        self._phase = Phase("", 0)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, phases: Sequence[Phase], current: int) -> None:
        """Take note of the phase that begins."""
        self._estimate.begin(phases, current)
        if current == len(phases):
            self.close()
            self._write(f"done: {max(phase.rows for phase in phases):,} rows in {show_seconds(self._estimate.seconds)}")
            return
        self._phase = phases[current]
        if self._thread is None:
            self._write(describe(self._phase, self._estimate))
            # A phase is one statement, which keeps this thread; another one has to tell that it still runs.
            self._stop.clear()
            self._thread = threading.Thread(target=self._tick, name="migration-progress", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Say no more; a migration that failed ends so."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _tick(self) -> None:
        while not self._stop.wait(self._seconds_between):
            self._write(describe(self._phase, self._estimate))


def describe(phase: Phase, estimate: Estimate) -> str:
    """Say in a line which phase runs, and how far everything is."""
    # DuckDB builds the indexes of a transaction when it commits: to say "index" before would be a lie.
    name = "commit, which builds DuckDB's indexes" if phase.name == COMMIT else phase.name
    rows = f": {phase.rows:,} row{'' if phase.rows == 1 else 's'}" if phase.rows else ""
    share = f"{100 * estimate.done / estimate.total:.0f} % done" if estimate.total else "begun"
    left = estimate.seconds_left
    return f"{name}{rows}; {share}" + ("" if left is None else f", about {show_seconds(left)} left")


def show_seconds(seconds: float) -> str:
    """Show a time as people say it: 0.4 s, 12 s, 3 min 20 s."""
    if seconds < 10:  # noqa: PLR2004 - below, tenths say something
        return f"{seconds:.1f} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest} s"
