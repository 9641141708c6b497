"""Each check finds what it is there for, and nothing in a sound database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.ingest.settle import backfill
from opencode_monitor.integrity.checks import CHECKS, run_checks
from opencode_monitor.integrity.fingerprint import (
    RECOVERED_SESSIONS,
    audit_findings,
    differences,
    fingerprint,
    latest_move,
    latest_proofs,
    take_states,
)
from opencode_monitor.metrics.carried import carry_costs
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.testing.builders import NOON, add_call, add_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session


def fill_soundly(session: Session) -> None:
    """Write a little in which everything agrees."""
    add_session(session, "ses_1")
    add_call(session, "msg_1", "ses_1", written=((7,),))
    add_call(session, "msg_2", "ses_1", model_id="ollama/qwen3-coder")
    seed_price_book(session.connection(), now=NOON)
    backfill(session.connection(), now=NOON)
    carry_costs(session.connection(), ["ses_1"])


@pytest.fixture
def sound(filled: Callable[[Callable[[Session], None]], Session]) -> Session:
    """A small database in which everything agrees."""
    return filled(fill_soundly)


def found(session: Session) -> dict[str, list[tuple[str, str]]]:
    results = run_checks(session.connection())
    return {result.check: [(one.subject, one.detail) for one in result.findings] for result in results if result.count}


def test_run_checks_sound_database_finds_nothing(sound: Session) -> None:
    assert [result.check for result in run_checks(sound.connection())] == [check.name for check in CHECKS]
    assert found(sound) == {}


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (
            "UPDATE parts SET part_cost_usd = part_cost_usd + 0.000000000001 WHERE part_id = 'msg_1_01'",
            {"part-costs": [("msg_1", "costs -1E-12 USD more than its parts")]},
        ),
        (
            "UPDATE session_stats SET total_cost_usd = NULL",
            {"session-costs": [("ses_1", "costs -0.004500000000 USD more in session_stats than its messages")]},
        ),
        (
            "UPDATE messages SET message_cost_usd = 0 WHERE message_id = 'msg_2'",
            {"unknown-costs": [("msg_2", "cost and basis (unpriced) disagree")]},
        ),
        (
            "UPDATE carried_costs SET carried_cost_usd = carried_cost_usd + 0.000000000001, carrier_id = 'prt_lost'",
            {
                "carried-costs": [
                    ("ses_1", "carried costs are 1E-12 USD more than the input side of its calls"),
                    ("prt_lost", "carried cost of a missing part of ses_1"),
                ]
            },
        ),
        (
            "UPDATE step_events SET price_id = 'a/b|standard|0|1970-01-01|user' WHERE message_id = 'msg_1'",
            {
                "price-rows": [("msg_1_02", "priced by a/b|standard|0|1970-01-01|user, which is not in the book")],
                "carried-costs": [("ses_1", "carried costs are 0.003000000000 USD more than the input side of its calls")],
            },
        ),
        (
            "UPDATE step_events SET called_at = '2026-05-04 12:00:01', model_id = NULL WHERE message_id = 'msg_1'",
            {"call-facts": [("msg_1_02", "model or time is not that of its message msg_1")]},
        ),
        (
            "INSERT INTO thinking_blocks (thinking_id, part_id, session_id, thinking_tokens) VALUES ('t', 'msg_1_01', 'ses_1', -2)",
            {"tokens": [("msg_1_01", "thinking_tokens is -2: impossible")]},
        ),
        ("DELETE FROM session_resource_metrics", {"metrics": [("ses_1", "session without metrics")]}),
        (
            "UPDATE messages SET output_tokens = -1 WHERE message_id = 'msg_1'",
            {"tokens": [("msg_1", "output_tokens is -1: impossible"), ("msg_1", "output_tokens is -101 more than in its steps")]},
        ),
        (
            "INSERT INTO parts_legacy (part_id) VALUES ('prt_lost')",
            {
                "missing-parts": [("prt_lost", "in parts_legacy, and not in parts")],
                "fingerprints": [
                    ("parts_legacy.rows", "changed since it was migrated"),
                    ("parts_legacy.part_id", "changed since it was migrated"),
                ],
            },
        ),
    ],
)
def test_run_checks_damage_is_found_and_named(sound: Session, damage: str, expected: dict[str, list[tuple[str, str]]]) -> None:
    sound.execute(sa.text(damage))
    assert found(sound) == expected


def test_legacy_findings_old_table_that_changed_is_named_by_column(empty_database_url: str) -> None:
    upgrade(empty_database_url, "migration_audit")
    engine = create_database_engine(empty_database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO sessions (session_id) VALUES ('ses_1')")
        connection.exec_driver_sql(
            "INSERT INTO parts (part_id, session_id, part_type, content) VALUES ('prt_1', 'ses_1', 'text', 'before')"
        )
    upgrade(empty_database_url)
    with engine.begin() as connection:
        proof = latest_move(connection)
        connection.exec_driver_sql("UPDATE parts_legacy SET content = 'after'")
    with engine.connect() as connection:
        results = {result.check: result for result in run_checks(connection)}
    engine.dispose()
    assert proof["before"] == proof["after"]
    assert [(one.subject, one.detail) for one in results["fingerprints"].findings] == [
        ("parts_legacy.content", "changed since it was migrated")
    ]


def test_differences_of_databases_name_table_and_column(sound: Session) -> None:
    before = fingerprint(sound.connection())
    sound.execute(sa.text("UPDATE sessions SET title = 'Renamed'"))
    assert differences(before, fingerprint(sound.connection())) == ["sessions.title"]
    assert differences(before, fingerprint(sound.connection(), leave_out=frozenset({"title"}))) == ["sessions.title"]


def test_audit_findings_table_that_a_migration_changed_is_named(empty_database_url: str) -> None:
    upgrade(empty_database_url, "migration_audit")
    engine = create_database_engine(empty_database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO sessions (session_id) VALUES ('ses_1')")
        connection.exec_driver_sql(
            "INSERT INTO parts (part_id, session_id, part_type) VALUES ('prt_1', 'ses_1', 'text'), ('prt_2', NULL, 'x')"
        )
    upgrade(empty_database_url)
    with engine.connect() as connection:
        sound = audit_findings(connection)
        proofs = latest_proofs(connection, "denormalize_parts", "upgrade")
    with engine.begin() as connection:
        # As a migration would have recorded it that lost the session's title.
        connection.exec_driver_sql(
            "UPDATE migration_audit SET fingerprint = CAST(replace(CAST(fingerprint AS TEXT), '\"title\": [0', '\"title\": [1') AS JSON)"
            " WHERE table_name = 'sessions' AND phase = 'before'"
        )
    with engine.connect() as connection:
        found = audit_findings(connection)
    engine.dispose()
    assert sound == []
    assert {table: (phases["before"].rows, phases["after"].rows) for table, phases in proofs.items()} == {
        "parts": (2, 2),
        "sessions": (1, 1),
    }
    assert found == [("sessions.title", "changed in the upgrade of denormalize_parts")]


def test_recovered_sessions_are_the_ones_that_the_revision_adds(empty_database_url: str) -> None:
    upgrade(empty_database_url, "migration_audit")
    engine = create_database_engine(empty_database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO sessions (session_id, title) VALUES ('ses_1', NULL)")
        connection.exec_driver_sql("INSERT INTO parts (part_id, session_id) VALUES ('prt_1', 'ses_lost'), ('prt_2', NULL)")
    upgrade(empty_database_url)
    with engine.connect() as connection:
        state = take_states(connection)["sessions"]
        stubs = connection.execute(sa.text(f"SELECT session_id FROM sessions WHERE {RECOVERED_SESSIONS} ORDER BY 1")).scalars().all()
    engine.dispose()
    assert state.rows == 3
    assert state.checksum is not None
    assert state.checksum.rows == 1
    assert stubs == ["ses_lost", "ses_missing"]
