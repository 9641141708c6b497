"""Progress: what is told when, and the time that is left."""

from __future__ import annotations

import time

import pytest

from opencode_monitor.db.progress import Estimate, Phase, PhaseLines, PhaseReport, describe, show_seconds

PHASES = [Phase("checksum", 100), Phase("create", 0), Phase("move parts", 100), Phase("commit", 200)]


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_phase_report_tells_each_phase_once_and_the_end() -> None:
    told: list[tuple[str, ...] | int] = []
    report = PhaseReport(lambda phases, current: told.append(current if told else tuple(phase.name for phase in phases)))

    report.plan(PHASES[:3])
    for name in ("create", "create", "unknown", "move parts", "checksum", "commit", "commit"):
        report.start(name)
    report.finish()
    report.finish()

    assert told == [("checksum", "create", "move parts", "commit"), 1, 2, 3, 4]


def test_phase_report_without_rows_tells_nothing() -> None:
    told: list[int] = []
    report = PhaseReport(lambda _, current: told.append(current))

    report.plan([Phase("checksum", 0)])
    report.start("commit")
    report.finish()

    assert told == []


def test_estimate_speed_so_far_tells_what_is_left() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    estimate.begin(PHASES, 0)
    clock.now += 5
    assert (estimate.done, estimate.seconds_left) == (0, None)
    clock.now += 5
    estimate.begin(PHASES, 2)
    assert (estimate.done, estimate.total, estimate.seconds_left) == (100, 400, 30)
    clock.now += 4
    assert (estimate.done, estimate.seconds_left) == (140, 26)
    clock.now += 400
    assert estimate.done == 195
    estimate.begin(PHASES, 4)
    assert (estimate.done, estimate.seconds_left) == (400, 0)


def test_describe_commit_does_not_pretend_that_indexes_were_built_before() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    estimate.begin(PHASES, 0)
    clock.now += 10
    estimate.begin(PHASES, 3)

    assert describe(PHASES[3], estimate) == "commit, which builds DuckDB's indexes: 200 rows; 50 % done, about 10 s left"


def test_phase_lines_long_phase_is_told_again_until_closed() -> None:
    lines: list[str] = []
    show = PhaseLines(lines.append, seconds_between=0.02)

    show(PHASES, 0)
    deadline = time.monotonic() + 5
    while len(lines) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    show.close()
    told = len(lines)
    time.sleep(0.06)

    assert lines[:2] == ["checksum: 100 rows; 0 % done"] * 2
    assert len(lines) == told


def test_phase_lines_short_work_is_a_line_at_each_end() -> None:
    lines: list[str] = []
    show = PhaseLines(lines.append)

    for current in range(len(PHASES) + 1):
        show(PHASES, current)

    assert lines == ["checksum: 100 rows; 0 % done", "done: 200 rows in 0.0 s"]


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (200, "3 min 20 s")])
def test_show_seconds_is_as_exact_as_people_need(seconds: float, text: str) -> None:
    assert show_seconds(seconds) == text
