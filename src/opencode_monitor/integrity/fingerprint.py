"""Fingerprints: of every table for comparing two databases, and of the old `parts` against what its migration stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.db.checksum import Checksum, checksum, row_counts, table_checksum
from opencode_monitor.db.progress import Phase
from opencode_monitor.models import Base, MigrationAudit, Part

if TYPE_CHECKING:
    from opencode_monitor.db.progress import Show

PARTS_LEGACY = "parts_legacy"
MOVED_TABLE = "parts"
"""The rows of the 29 columns, in `migration_audit`."""

RECOVERED_SESSIONS = "title = '(recovered: parts without a session)' AND created_at IS NULL"
"""The stand-ins that `denormalize_parts` adds for sessions that parts name and no table has; its downgrade takes them away."""


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
    """Return the moved rows' checksums of a revision's last upgrade by phase (before, after); empty where it moved nothing."""
    return latest_proofs(connection, revision, "upgrade").get(MOVED_TABLE, {})


def latest_proofs(connection: sa.Connection, revision: str, direction: str) -> dict[str, dict[str, Checksum]]:
    """Return what a revision's last run in a direction recorded: for each table its checksum by phase (before, after)."""
    rows = connection.execute(
        sa.select(MigrationAudit.phase, MigrationAudit.table_name, MigrationAudit.fingerprint, MigrationAudit.created_at)
        .where(
            MigrationAudit.revision == revision,
            MigrationAudit.direction == direction,
            MigrationAudit.phase.in_(("before", "after")),
        )
        .order_by(MigrationAudit.created_at)
    ).all()
    started = max((created_at for phase, _, _, created_at in rows if phase == "before"), default=None)
    proofs: dict[str, dict[str, Checksum]] = {}
    for phase, table, document, created_at in rows:
        if started is not None and created_at >= started:
            proofs.setdefault(table, {})[phase] = Checksum.from_json(document)
    return proofs


def audit_findings(connection: sa.Connection) -> list[tuple[str, str]]:
    """Return, as (subject, detail), the tables that did not come through a migration as they were.

    What was recorded before and after is compared, and not what the tables hold by now: they are there to be written.
    """
    moves = connection.execute(sa.select(MigrationAudit.revision, MigrationAudit.direction).distinct()).all()
    found = []
    for revision, direction in sorted(tuple(move) for move in moves):
        for table, phases in latest_proofs(connection, revision, direction).items():
            # Empty before: whatever it holds, the move put there.
            if "before" in phases:
                after = phases.get("after", Checksum(0, {}))
                found += [
                    (f"{table}.{column}", f"changed in the {direction} of {revision}") for column in phases["before"].differences(after)
                ]
    return found


@dataclass(frozen=True, slots=True)
class TableState:
    """What a table holds, at whatever revision.

    Attributes:
        rows: How many rows.
        checksum: Of its rows but the stand-ins for lost sessions, or None where only the rows were counted.
    """

    rows: int
    checksum: Checksum | None


def take_states(
    connection: sa.Connection, *, count_only: frozenset[str] | None = frozenset(), progress: Show | None = None
) -> dict[str, TableState]:
    """Return what each table holds, except for what migrations themselves write about.

    Args:
        connection: A database at any revision.
        count_only: Tables whose rows are counted and not read; None for all.
        progress: Is told of each table that is read.
    """
    names = sorted(set(sa.inspect(connection).get_table_names()) - {"alembic_version", "migration_audit"})
    rows = row_counts(connection, names)
    read = [] if count_only is None else [table for table in names if table not in count_only]
    phases = [Phase(f"checksum {table}", rows[table]) for table in read if rows[table]]
    begun = 0
    checksums = {}
    for table in read:
        if progress is not None and rows[table]:
            progress(phases, begun)
            begun += 1
        checksums[table] = table_checksum(connection, table, leave_out=RECOVERED_SESSIONS if table == "sessions" else None)
    if progress is not None and phases:
        progress(phases, len(phases))
    return {table: TableState(rows[table], checksums.get(table)) for table in names}


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
