"""Alembic's environment: one history for DuckDB and PostgreSQL.

The URL comes from the caller (`config.attributes["database_url"]`: the program, the tests), else from the settings. Each revision runs in a
transaction of its own, so that a revision that fails leaves the one before it. The whole run holds the lock of `migration_connection`, or
the caller holds it and gives its connection.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from alembic import context
from alembic.util import CommandError
from sqlalchemy import make_url

from opencode_monitor.db.autogenerate import compare_server_default, compare_type, include_object
from opencode_monitor.db.lock import migration_connection
from opencode_monitor.db.progress import COMMIT, PhaseLines, PhaseReport
from opencode_monitor.db.revision import HEAD_REVISION
from opencode_monitor.errors import OpencodeMonitorError
from opencode_monitor.models import Base
from opencode_monitor.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from alembic.runtime.migration import MigrationContext, MigrationInfo
    from sqlalchemy import Connection

attributes = context.config.attributes
# Nobody but the alembic command leaves it out: there, errors have to be a line, and progress is shown.
is_alembic_command = "database_url" not in attributes
database_url: str = attributes.get("database_url") or load_settings().database_url


def run_migrations(connection: Connection, report: PhaseReport) -> None:
    """Run what was asked for on a connection that holds the lock."""
    is_duckdb = connection.dialect.name == "duckdb"
    if is_duckdb and "memory_limit" not in connection.engine.url.query:
        # More than a report or an import may take: moving two million parts in one transaction needs between one and two.
        connection.exec_driver_sql("SET memory_limit = '2GB'")
    connection.commit()
    attributes["phase_report"] = report

    reached_head = False

    def start_commit(ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]) -> None:
        nonlocal reached_head
        del ctx, heads, run_args
        reached_head = step.is_upgrade and step.up_revision_id == HEAD_REVISION
        report.start(COMMIT)

    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=compare_type,
        compare_server_default=compare_server_default,
        include_object=include_object,
        transaction_per_migration=True,
        on_version_apply=start_commit,
    )
    with context.begin_transaction():
        context.run_migrations()
    if is_alembic_command and reached_head:
        from opencode_monitor.ingest.settle import settle_database  # noqa: PLC0415 - most runs do not need it

        # As `opencode-monitor db upgrade` does: without it, `db verify` would find sessions without metrics.
        with connection.begin():
            settle_database(connection, now=datetime.now(UTC))
    if is_duckdb:
        # A run without a revision to run still makes Alembic's own table.
        connection.commit()
        # Leaves no write-ahead log behind: a later reader may not be allowed to replay it.
        connection.exec_driver_sql("CHECKPOINT")
        connection.commit()
    report.finish()


def run_locked() -> None:
    """Take the lock unless the caller holds it, and run."""
    lines = PhaseLines(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201 - the alembic command's own way to speak
    show = lines if is_alembic_command else attributes.get("progress") or (lambda _phases, _current: None)
    given = attributes.get("connection")
    try:
        with (
            nullcontext(given)
            if given is not None
            else migration_connection(database_url, wait_seconds=attributes.get("wait_seconds", 30.0)) as connection
        ):
            run_migrations(connection, PhaseReport(show))
    finally:
        lines.close()


if context.is_offline_mode():
    context.configure(
        dialect_name=make_url(database_url).get_backend_name(),
        target_metadata=Base.metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    try:
        run_locked()
    except OpencodeMonitorError as error:
        if is_alembic_command:
            raise CommandError(str(error)) from error
        raise
