"""Whether the old table may go: its week is over, its move is proven, and nothing in the database contradicts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from opencode_monitor.integrity.checks import run_checks
from opencode_monitor.integrity.fingerprint import PARTS_LEGACY
from opencode_monitor.models import MigrationAudit


def has_legacy(connection: sa.Connection) -> bool:
    """Tell whether the old table is still there."""
    return sa.inspect(connection).has_table(PARTS_LEGACY)


def obstacle(connection: sa.Connection, *, keep: timedelta, now: datetime) -> str | None:
    """Return what speaks against dropping the old table, in a sentence, or None.

    Args:
        connection: A database at head that has the old table; nothing is written.
        keep: How long after its migration the table has to stay.
        now: The current time.
    """
    moved_at = connection.scalar(
        sa.select(sa.func.max(MigrationAudit.created_at)).where(
            MigrationAudit.revision == "denormalize_parts", MigrationAudit.direction == "upgrade", MigrationAudit.phase == "after"
        )
    )
    if moved_at is None:
        return f"{PARTS_LEGACY} stays: migration_audit has no proof of its move, as after a script that alembic printed"
    allowed_at = moved_at.replace(tzinfo=UTC) + keep
    if now < allowed_at:
        return f"{PARTS_LEGACY} stays until {allowed_at:%Y-%m-%d %H:%M} UTC, {_days(keep)} after its migration. A shorter time: --after 0d."
    failed = [result for result in run_checks(connection) if result.count]
    if failed:
        names = ", ".join(f"{result.check} ({result.count:,})" for result in failed)
        return f"{PARTS_LEGACY} stays: there are findings in {names}. List: opencode-monitor db verify"
    return None


def _days(length: timedelta) -> str:
    days = length / timedelta(days=1)
    return f"{days:g} day" if days == 1 else f"{days:g} days"


def database_size(connection: sa.Connection) -> int:
    """Return how many bytes the database takes."""
    if connection.dialect.name == "postgresql":
        return int(connection.scalar(sa.text("SELECT pg_database_size(current_database())")) or 0)
    blocks, block_size = connection.execute(sa.text("SELECT total_blocks, block_size FROM pragma_database_size()")).one()
    return int(blocks) * int(block_size)
