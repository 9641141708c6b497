"""Fingerprints: of every table for comparing two databases, and of the old `parts` against what its migration stored."""

from __future__ import annotations

import sqlalchemy as sa

from opencode_monitor.db.checksum import Checksum, checksum
from opencode_monitor.models import Base, MigrationAudit, Part

PARTS_LEGACY = "parts_legacy"


def fingerprint(connection: sa.Connection, *, leave_out: frozenset[str] = frozenset()) -> dict[str, Checksum]:
    """Return the checksum of every table of the models, by name.

    Args:
        connection: A database at head.
        leave_out: Columns that may differ between equal databases, such as the times of an import.
    """
    tables = {}
    for table in Base.metadata.sorted_tables:
        columns = [column.name for column in table.columns if column.name not in leave_out]
        tables[table.name] = checksum(connection, table.name, [column.name for column in table.primary_key], columns)
    return tables


def differences(before: dict[str, Checksum], after: dict[str, Checksum]) -> list[str]:
    """Return what differs between two databases, as "table.column"."""
    return [
        f"{table}.{column}"
        for table in {**before, **after}
        for column in (before[table].differences(after[table]) if table in before and table in after else ["missing"])
    ]


def latest_move(connection: sa.Connection, revision: str = "denormalize_parts") -> dict[str, Checksum]:
    """Return the proof of a revision's last upgrade by phase (before, after); empty where it moved nothing."""
    rows = connection.execute(
        sa.select(MigrationAudit.phase, MigrationAudit.fingerprint)
        .where(MigrationAudit.revision == revision, MigrationAudit.direction == "upgrade")
        .order_by(MigrationAudit.created_at)
    ).all()
    return {phase: Checksum.from_json(document) for phase, document in rows}


def legacy_checksum(connection: sa.Connection) -> Checksum | None:
    """Return the checksum of the old table as it is now, or None where it was retired."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(PARTS_LEGACY):
        return None
    columns = [column["name"] for column in inspector.get_columns(PARTS_LEGACY)]
    return checksum(connection, PARTS_LEGACY, ["part_id"], columns)


def legacy_findings(connection: sa.Connection) -> list[tuple[str, str]]:
    """Return, as (subject, detail), where the old table or the proof of its migration does not hold."""
    proof = latest_move(connection)
    if not proof:
        return []
    before, after = proof["before"], proof["after"]
    found = [(f"{PARTS_LEGACY}.{column}", "not read back equal when it was migrated") for column in before.differences(after)]
    now = legacy_checksum(connection)
    if now is not None:
        found += [(f"{PARTS_LEGACY}.{column}", "changed since it was migrated") for column in before.differences(now)]
    return found


def missing_parts(connection: sa.Connection) -> list[tuple[str, str]]:
    """Return, as (subject, detail), the parts of the old table that the new one lacks."""
    if not sa.inspect(connection).has_table(PARTS_LEGACY):
        return []
    legacy = sa.table(PARTS_LEGACY, sa.column("part_id"))
    statement = sa.select(legacy.c.part_id).where(~sa.exists().where(Part.part_id == legacy.c.part_id))
    return [(part_id, f"in {PARTS_LEGACY}, and not in parts") for part_id in connection.execute(statement).scalars().all()]
