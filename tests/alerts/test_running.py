"""Runs, one after the other and at once: what is told, what waits, and under which key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from opencode_monitor.alerts.conditions import EXAMPLES
from opencode_monitor.alerts.config import AlertConfig, parse_config
from opencode_monitor.alerts.running import Outcome, Run, Surroundings, run_alerts, run_test
from opencode_monitor.alerts.webhook import Patience
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.models import AlertDeliveryRow, KnownSource
from opencode_monitor.repositories import CostNumber
from opencode_monitor.repositories.alerts import LEASE, MOST_WAITING, AlertDeliveryRepository, AlertRepository
from opencode_monitor.testing.builders import add_call, add_project, add_session, settle
from receivers import receiving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.server import BaseHTTPRequestHandler

    from receivers import Receiver

# Berlin is at 14:00.
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
STALE = {"name": "stale", "when": "import_age > 24h", "channels": ["ops"]}


@dataclass(slots=True)
class World:
    """A database, a configuration, and a clock that a test sets."""

    sessions: sessionmaker[Session]
    config: AlertConfig
    now: datetime = NOON
    tz: str = "Europe/Berlin"
    printed: list[dict[str, Any]] = field(default_factory=list)

    def surroundings(self) -> Surroundings:
        return Surroundings(
            config=self.config,
            tz=ZoneInfo(self.tz),
            cost_number=CostNumber.LIST,
            clock=lambda: self.now,
            out=self.printed.append,
            patience=Patience(seconds=2, pauses=()),
        )

    def run(self, after: timedelta = timedelta(0)) -> Run:
        """Run once, some time after the last one."""
        self.now += after
        return run_alerts(lambda _: self.sessions, self.surroundings())

    def imported(self, before: timedelta) -> None:
        """Have the last import so long before now."""
        at = self.now - before
        with self.sessions.begin() as session:
            session.merge(
                KnownSource(
                    source_id="src", kind="json", path="/x", host="h", username="u", first_imported_at=at, last_imported_at=at, state=None
                )
            )

    def waiting(self) -> list[AlertDeliveryRow]:
        with self.sessions() as session:
            return list(AlertDeliveryRepository(session).waiting([rule.name for rule in self.config.rules]))


def configure(receiver: Receiver | None = None, *alerts: dict[str, Any], **channels: dict[str, Any]) -> AlertConfig:
    """Make a configuration of the given alerts, else of one that looks at the age of the import."""
    ops = {} if receiver is None else {"ops": {"type": "json", "url": receiver.url}}
    return parse_config({"alert": list(alerts) or [STALE], "channels": {**ops, **channels}}, Path("config.toml"))


@pytest.fixture
def world(engine: sa.Engine, receiver: Receiver) -> World:
    """One alert that fires, on each engine."""
    made = World(sessionmaker(engine), configure(receiver))
    made.imported(25 * HOUR)
    return made


@pytest.fixture
def small(migrated_duckdb_url: str, receiver: Receiver) -> Iterator[World]:
    """The same on DuckDB alone."""
    engine = create_database_engine(migrated_duckdb_url, wait_seconds=5)
    with engine.connect():
        made = World(sessionmaker(engine), configure(receiver))
        made.imported(25 * HOUR)
        yield made
    engine.dispose()


def outcomes(run: Run) -> list[str]:
    return [one.outcome.value for one in run.deliveries]


def told(receiver: Receiver) -> list[str]:
    return [request.json["event"] for request in receiver.requests]


def test_run_alerts_every_ten_minutes_tells_once_and_once_that_it_is_over(world: World, receiver: Receiver) -> None:
    first = world.run()
    again = [world.run(10 * MINUTE) for _ in range(3)]
    world.imported(MINUTE)
    after = [world.run(10 * MINUTE) for _ in range(5)]

    assert told(receiver) == ["firing", "resolved"]
    assert (outcomes(first), [outcomes(run) for run in again]) == (["sent"], [[]] * 3)
    assert [run.looked[0].step.memory.state.value for run in after] == ["firing", "firing", "resolved", "resolved", "resolved"]
    assert receiver.requests[0].json["text"] == "stale: 25 h 0 min since the last import"
    assert len(set(receiver.keys)) == 2
    assert receiver.keys[0] == f"{receiver.requests[0].json['id']}-ops"


def test_run_alerts_failed_delivery_waits_and_is_sent_by_the_next_run_as_it_was(world: World, receiver: Receiver) -> None:
    receiver.answers.extend([500, 404])

    runs = [world.run(), world.run(10 * MINUTE), world.run(10 * MINUTE), world.run(10 * MINUTE)]

    assert [outcomes(run) for run in runs] == [["failed"], ["failed"], ["sent"], []]
    assert [run.deliveries[0].failure for run in runs[:2]] == ["answered 500 (1 try)", "answered 404: check the address"]
    assert (len(set(receiver.keys)), len({request.body for request in receiver.requests})) == (1, 1)
    with world.sessions() as session:
        row = session.scalars(sa.select(AlertDeliveryRow)).one()
        assert (row.attempts, row.failure, row.claimed_at, row.delivered_at) == (3, None, None, NOON + 20 * MINUTE)


def test_run_alerts_every_measure_is_looked_at(world: World) -> None:
    alerts = [{"name": str(number), "when": text} for number, text in enumerate(EXAMPLES.values())]
    world.config = configure(None, *alerts)

    run = world.run()

    verdicts = {one.rule.condition.measure.value: one.step.verdict.value for one in run.looked}
    assert verdicts == {
        "daily_cost": "unknown",
        "budget": "unknown",
        "anomaly impact_usd": "unknown",
        "import_age": "firing",
        "integrity_failures": "ok",
        "error_rate": "unknown",
        "unpriced_share": "unknown",
    }
    assert [document["alert"] for document in world.printed] == ["3"]


def test_run_alerts_in_quiet_hours_holds_back_and_loses_nothing(small: World, receiver: Receiver) -> None:
    quiet = {**STALE, "quiet_hours": "22:00-07:00", "repeat": "1h"}
    small.config = configure(receiver, quiet)
    small.now = datetime(2026, 5, 4, 20, 30, tzinfo=UTC)  # 22:30 in Berlin
    small.imported(25 * HOUR)

    night = [small.run(), small.run(2 * HOUR), small.run(2 * HOUR)]
    small.imported(MINUTE)
    fine = small.run(HOUR)
    unsent = list(receiver.requests)
    morning = small.run(4 * HOUR)

    assert [outcomes(run) for run in (*night, fine)] == [["held back"]] * 3 + [["held back"] * 2]
    assert (unsent, outcomes(morning), told(receiver)) == ([], ["sent", "sent"], ["firing", "resolved"])
    assert receiver.requests[0].json["created_at"] == "2026-05-04T20:30:00+00:00"


def test_run_alerts_one_that_has_not_been_told_needs_no_reminder(small: World, receiver: Receiver) -> None:
    small.config = configure(receiver, {**STALE, "repeat": "1h"})
    receiver.answers.extend([500] * 3)

    runs = [small.run(HOUR) for _ in range(6)]

    assert [outcomes(run) for run in runs] == [["failed"]] * 3 + [["sent"]] * 3
    assert [request.json["repeated"] for request in receiver.requests] == [False] * 4 + [True] * 2
    assert receiver.requests[-1].json["text"].startswith("stale, still: ")


def test_run_alerts_later_messages_wait_behind_one_that_nobody_answered(small: World, receiver: Receiver) -> None:
    other = {"name": "other", "when": "import_age > 1h", "channels": ["ops", "log"]}
    small.config = configure(receiver, STALE, other, log={"type": "stdout"})
    receiver.answers.append(500)

    run = small.run()
    more = small.run(MINUTE)

    by_channel = sorted((one.channel, one.outcome.value) for one in run.deliveries)
    assert by_channel == [("log", "sent"), ("ops", "failed"), ("ops", "waiting")]
    assert outcomes(more) == ["sent", "sent"]
    assert len(set(receiver.keys)) == 2


def test_run_alerts_one_that_is_refused_does_not_keep_others_back(small: World, receiver: Receiver) -> None:
    small.config = configure(receiver, STALE, {**STALE, "name": "other"})
    receiver.answers.append(413)

    assert sorted(outcomes(small.run())) == ["failed", "sent"]


def test_run_alerts_channel_that_is_gone_gives_its_messages_up(small: World, receiver: Receiver) -> None:
    receiver.answers.append(500)
    small.run()
    small.config = configure(receiver, {**STALE, "channels": ["stdout"]})

    run = small.run(MINUTE)

    assert ([(one.channel, one.outcome) for one in run.deliveries], small.waiting()) == ([("ops", Outcome.GIVEN_UP)], [])


def test_run_alerts_more_than_can_wait_gives_the_oldest_up(small: World, receiver: Receiver) -> None:
    with small.sessions.begin() as session:
        for number in range(MOST_WAITING + 2):
            AlertDeliveryRepository(session).add(
                f"{number:03d}", alert="stale", channel="ops", event="firing", payload={}, now=NOON - 100 * HOUR + number * MINUTE
            )
    receiver.answers.append(500)

    run = small.run()

    assert [one.id for one in run.deliveries if one.outcome is Outcome.GIVEN_UP] == ["000", "001", "002"]
    assert len(small.waiting()) == MOST_WAITING


def test_run_alerts_sent_messages_are_forgotten_after_a_month(small: World) -> None:
    small.run()
    small.run(31 * 24 * HOUR)

    with small.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(AlertDeliveryRow)) == 0


def test_run_alerts_another_configuration_on_the_same_database_is_left_alone(small: World, receiver: Receiver) -> None:
    receiver.answers.append(500)
    small.run()
    ours = small.config
    small.config = configure(receiver, {**STALE, "name": "theirs", "channels": ["stdout"]})

    theirs = small.run()
    small.config = ours
    run = small.run(MINUTE)

    assert (outcomes(theirs), outcomes(run), told(receiver)) == (["sent"], ["sent"], ["firing", "firing"])


def test_run_alerts_paths_and_titles_are_kept_for_the_channels_that_may_have_them(small: World, receiver: Receiver) -> None:
    small.imported(MINUTE)
    with small.sessions.begin() as session:
        add_project(session, worktree="/home/dev/merger")
        for number in range(10):
            at = NOON - number * 24 * HOUR
            add_session(session, f"ses_{number}", created_at=at, project_id="prj_1").title = "Buy the company"
            tokens = 10_000 if number else 2_000_000
            add_call(session, f"msg_{number}", f"ses_{number}", created_at=at, steps=[(0, 0, 0, tokens, 0)])
        settle(session)
    channels = {"titles": {"type": "stdout", "share": ["titles"]}, "paths": {"type": "stdout", "share": ["paths"]}}
    unusual = {"name": "unusual", "when": "anomaly impact_usd >= 20", "channels": ["ops", "titles", "paths"]}
    small.config = configure(receiver, unusual, **channels)

    small.run()

    closed = receiver.requests[0].json
    paths, titles = small.printed
    assert len({document["id"] for document in (closed, titles, paths)}) == 1
    hidden = [[word in json.dumps(document) for word in ("merger", "Buy the company")] for document in (closed, titles, paths)]
    assert hidden == [[False, False], [False, True], [True, False]]
    assert {"what": "project", "name": None, "amount": "29.850000000000"} in closed["facts"]
    assert closed["text"] == "unusual: $29.85 more than usual on 2026-05-04"


@pytest.mark.long
def test_run_alerts_killed_after_sending_sends_again_under_the_same_key(migrated_duckdb_url: str, tmp_path: Path) -> None:
    engine = create_database_engine(migrated_duckdb_url, wait_seconds=5)
    with receiving() as receiver:
        file = tmp_path / "config.toml"
        file.write_text(f'[channels.ops]\ntype = "json"\nurl = "{receiver.url}"\n[[alert]]\nname = "stale"\nwhen = "import_age > 24h"\n')
        file.write_text(file.read_text() + 'channels = ["ops"]\n')
        world = World(sessionmaker(engine), configure(receiver), now=datetime.now(UTC), tz="UTC")
        world.imported(25 * HOUR)
        command = [
            sys.executable,
            "-m",
            "opencode_monitor",
            "--db",
            migrated_duckdb_url,
            "--tz",
            "UTC",
            "--config",
            str(file),
            "alert",
            "run",
        ]
        process: subprocess.Popen[bytes] | None = None
        started = threading.Event()

        def kill(_: BaseHTTPRequestHandler) -> None:
            started.wait(10)
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)

        receiver.answers.append(kill)
        process = subprocess.Popen(command, env={**os.environ, "no_proxy": "*"})
        started.set()
        assert process.wait(60) == -signal.SIGKILL
        world.now = datetime.now(UTC)
        at_once, later = world.run(), world.run(LEASE + MINUTE)
    engine.dispose()

    assert (outcomes(at_once), outcomes(later)) == (["waiting"], ["sent"])
    assert (len(receiver.requests), len(set(receiver.keys)), len({request.body for request in receiver.requests})) == (2, 1, 1)


@pytest.mark.postgresql
def test_run_alerts_several_at_once_tell_once(migrated_postgresql_url: str, receiver: Receiver) -> None:
    engine = create_database_engine(migrated_postgresql_url, wait_seconds=5)
    world = World(sessionmaker(engine), configure(receiver))
    world.imported(25 * HOUR)

    with ThreadPoolExecutor(4) as threads:
        runs = [one.result() for one in [threads.submit(world.run) for _ in range(4)]]
    engine.dispose()

    assert told(receiver) == ["firing"]
    assert sorted(outcome for run in runs for outcome in outcomes(run) if outcome == "sent") == ["sent"]


@pytest.mark.opened_elsewhere
def test_run_alerts_second_run_while_one_sends_tells_nothing(engine: sa.Engine, receiver: Receiver) -> None:
    world = World(sessionmaker(engine), configure(receiver))
    world.imported(25 * HOUR)
    during: list[Run] = []

    def run_beside(handler: BaseHTTPRequestHandler) -> None:
        during.append(world.run())
        handler.send_response(204)
        handler.end_headers()

    receiver.answers.append(run_beside)

    run = world.run()

    assert (outcomes(run), outcomes(during[0]), told(receiver)) == (["sent"], ["waiting"], ["firing"])


def test_run_alerts_look_that_was_overtaken_changes_nothing(small: World, receiver: Receiver) -> None:
    small.run()
    small.imported(MINUTE)

    late = small.run(-MINUTE)
    with small.sessions() as session:
        evaluated_at = AlertRepository(session).states(["stale"])["stale"].evaluated_at
    set_back = small.run(-24 * HOUR)

    assert (late.looked[0].step.event, evaluated_at) == (None, NOON)
    assert set_back.looked[0].step.memory.evaluated_at == NOON - MINUTE - 24 * HOUR
    assert told(receiver) == ["firing"]


def test_claim_is_one_runs_alone_until_its_time_is_over(engine: sa.Engine) -> None:
    at = [NOON, NOON + MINUTE, NOON + LEASE, NOON + 2 * LEASE - MINUTE, NOON - 24 * HOUR]

    claims = []
    with Session(engine) as session:
        repository = AlertDeliveryRepository(session)
        repository.add("1-ops", alert="a", channel="ops", event="firing", payload={"b": 1, "a": 2}, now=NOON)
        session.flush()
        claims = [repository.claim("1-ops", now=moment) for moment in at]
        repository.settle("1-ops", failure=None, now=NOON)
        sent = repository.claim("1-ops", now=NOON + 24 * HOUR)
        nobody = repository.claim("2-ops", now=NOON)
        session.expire_all()
        payload = session.get_one(AlertDeliveryRow, "1-ops").payload

    assert (claims, sent, nobody) == ([True, False, True, False, True], False, False)
    assert list(payload) == ["b", "a"]


def test_run_test_tells_every_channel_and_remembers_nothing(small: World, receiver: Receiver) -> None:
    small.config = configure(receiver, {**STALE, "channels": ["ops", "stdout"], "quiet_hours": "00:00-23:59"})
    receiver.answers.append(404)

    deliveries = run_test(small.config.rules[0], small.surroundings())

    assert [(one.channel, one.event, one.outcome.value, one.failure) for one in deliveries] == [
        ("ops", "test", "failed", "answered 404: check the address"),
        ("stdout", "test", "sent", None),
    ]
    assert (receiver.requests[0].json["test"], small.printed[0]["text"], small.waiting()) == (
        True,
        "[test] stale: a test of opencode-monitor; nothing fired",
        [],
    )
