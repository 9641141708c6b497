"""Alembic as functions: bring a database to a revision; and the proof that revisions which move data keep, frozen as they are."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from alembic import command, op
from alembic.config import Config

from opencode_monitor._version import __version__
from opencode_monitor.db.checksum import Checksum, checksum, row_counts, table_checksum
from opencode_monitor.db.progress import Phase, PhaseReport
from opencode_monitor.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from alembic.runtime.migration import MigrationContext

    from opencode_monitor.db.progress import Show

    Relation = str | Callable[[Sequence[str]], str]

MOVED_TABLE = "parts"
"""Under this name the rows of the 29 columns stand in `migration_audit`, wherever they are."""

_NOT_COMPARED = {"alembic_version", "migration_audit"}


class MigrationError(DatabaseError):
    """A revision refuses the data, or its proof does not hold; the transaction rolls back, and the database is as it was."""

    code = "migration_refused"


def script_location() -> Path:
    """Return the folder of the revisions: inside an installed package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "_alembic"
    return shipped if shipped.is_dir() else package.parents[1] / "alembic"


def upgrade(
    database_url: str,
    revision: str = "head",
    *,
    wait_seconds: float = 30.0,
    progress: Show | None = None,
    connection: sa.Connection | None = None,
) -> list[TableProof]:
    """Run the revisions up to one; a new DuckDB file is made where there is none.

    Args:
        database_url: The database.
        revision: Where to stop.
        wait_seconds: How long to wait for another process.
        progress: Is told of each phase of a revision that moves data.
        connection: One of `migration_connection`, where the caller holds the lock already.

    Returns:
        What the revisions that moved data proved; empty where none did.
    """
    config = _config(database_url, wait_seconds, progress, connection)
    command.upgrade(config, revision)
    return _proofs(config)


def downgrade(
    database_url: str,
    revision: str,
    *,
    wait_seconds: float = 30.0,
    progress: Show | None = None,
    connection: sa.Connection | None = None,
) -> list[TableProof]:
    """Run the revisions down to one.

    Args:
        database_url: The database.
        revision: Where to stop; `base` for an empty database.
        wait_seconds: How long to wait for another process.
        progress: Is told of each phase of a revision that moves data.
        connection: One of `migration_connection`, where the caller holds the lock already.

    Returns:
        What the revisions that moved data proved; empty where none did.
    """
    config = _config(database_url, wait_seconds, progress, connection)
    command.downgrade(config, revision)
    return _proofs(config)


def _config(database_url: str, wait_seconds: float, progress: Show | None, connection: sa.Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["database_url"] = database_url
    config.attributes["wait_seconds"] = wait_seconds
    config.attributes["progress"] = progress
    config.attributes["connection"] = connection
    return config


def _proofs(config: Config) -> list[TableProof]:
    proofs: list[TableProof] = config.attributes.get("proofs", [])
    return proofs


def count_rows(relation: str, conditions: Mapping[str, str]) -> dict[str, int]:
    """Count, in one scan from a running revision, the rows of a relation that meet each condition.

    Args:
        relation: What stands behind FROM.
        conditions: SQL conditions by name.
    """
    counts = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in conditions.values())
    row = op.get_bind().execute(sa.text(f"SELECT {counts} FROM {relation}")).one()  # noqa: S608 - the revision's own text
    return dict(zip(conditions, map(int, row), strict=True))


def plan_phases(phases: Mapping[str, int]) -> None:
    """Announce, from a running revision, the phases in which it moves data, of which the first begins.

    Args:
        phases: For each phase how many rows it takes, in their order. The commit, which comes last, is added.
    """
    report = _phase_report()
    if report is not None:
        report.plan([Phase(name, rows) for name, rows in phases.items()])


def start_phase(name: str) -> None:
    """Tell, from a running revision, that a phase begins which `plan_phases` announced."""
    report = _phase_report()
    if report is not None:
        report.start(name)


def _phase_report() -> PhaseReport | None:
    config = op.get_context().config
    return None if config is None else config.attributes.get("phase_report")


def drop_columns(
    table_name: str, *names: str, kept: Sequence[sa.schema.SchemaItem], indexes: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Drop columns of a table that no other table refers to, from a running or a printed revision.

    DuckDB drops no column of a table with an index, and not in the transaction that drops the index either: there the table is made anew.

    Args:
        table_name: The table.
        names: The columns.
        kept: What is left: the other columns, in their order, and the constraints.
        indexes: The columns of each index by its name.
    """
    if op.get_context().dialect.name != "duckdb":
        for name in names:
            op.drop_column(table_name, name)
        return
    columns = ", ".join(item.name for item in kept if isinstance(item, sa.Column))
    op.execute(f"CREATE TABLE {table_name}_kept AS SELECT {columns} FROM {table_name}")  # noqa: S608 - the revision's own names
    op.drop_table(table_name)
    op.create_table(table_name, *kept)
    for index, indexed in (indexes or {}).items():
        op.create_index(index, table_name, list(indexed))
    op.execute(f"INSERT INTO {table_name} ({columns}) SELECT {columns} FROM {table_name}_kept")  # noqa: S608 - as above
    op.drop_table(f"{table_name}_kept")


@dataclass(frozen=True, slots=True)
class TableProof:
    """What a table held at one moment of a move.

    Attributes:
        revision: The revision that moves data.
        direction: upgrade or downgrade.
        phase: before or after the move; "made" and "dropped" for the tables that only one of the two has, of which the rows are counted.
        table: Its name.
        rows: How many rows it held.
        checksum: Of the rows that the move has to leave as they are.
    """

    revision: str
    direction: str
    phase: str
    table: str
    rows: int
    checksum: Checksum


class Proof:
    """That a revision moved rows and changed none: checksums before the move and after it, all kept in `migration_audit`.

    The moved rows are read back from where they went and have to be what they were; so has every other table.
    Nothing is computed where Alembic only prints SQL.

    Args:
        context: The running migration's.
        revision: Which one.
        direction: upgrade or downgrade.
        columns: The moved rows' columns to cover; `part_id` identifies a row.
        family: The tables that the rows move between, `parts` and what takes its place: the move may make, fill and drop them.
        added: By table the condition of the rows that the move itself adds or takes away; they are counted and not compared.
    """

    def __init__(
        self,
        context: MigrationContext,
        revision: str,
        direction: str,
        columns: Sequence[str],
        *,
        family: Sequence[str] = (),
        added: Mapping[str, str] | None = None,
    ) -> None:
        self._context = context
        self._revision = revision
        self._direction = direction
        self._columns = columns
        self._family = family
        self._added = added or {}
        self._started = time.monotonic()
        self._before: dict[str, TableProof] = {}

    def before(self, relation: Relation) -> None:
        """Take the checksums where the rows are before the move.

        Args:
            relation: See `checksum`.
        """
        if not self._context.as_sql:
            self._before = self._take("before", relation)

    def after(self, relation: Relation) -> None:
        """Take the checksums of the same rows where they are now.

        Args:
            relation: See `checksum`.

        Raises:
            MigrationError: They are not the same.
        """
        if self._context.as_sql or not self._before:
            return
        after = self._take("after", relation)
        different = self._before[MOVED_TABLE].checksum.differences(after[MOVED_TABLE].checksum)
        if different:
            raise MigrationError(f"{self._revision} would change {', '.join(different)} of the moved rows; nothing was changed")
        for table, proof in self._before.items():
            changed = proof.checksum.differences(after[table].checksum) if table in after else ["everything"]
            if proof.phase == "before" and changed:
                raise MigrationError(f"{self._revision} would change {', '.join(changed)} of {table}; nothing was changed")

    def _take(self, phase: str, relation: Relation) -> dict[str, TableProof]:
        connection = self._context.connection
        if connection is None:
            raise RuntimeError("a migration that runs has a connection")
        moved = checksum(connection, relation, ["part_id"], self._columns)
        found = [(phase, MOVED_TABLE, moved.rows, moved)]
        present = set(sa.inspect(connection).get_table_names())
        if self._family:
            found += self._others(connection, phase, sorted(present - set(self._family) - _NOT_COMPARED))
            # The tables on the far side of the move: which these are is seen by which of the two phases they are there.
            if (phase == "after") == (self._direction == "upgrade"):
                counts = row_counts(connection, [table for table in self._family if table in present])
                far_phase = "made" if phase == "after" else "dropped"
                found += [(far_phase, table, rows, Checksum(rows, {})) for table, rows in counts.items()]
        return self._record(connection, found)

    def _others(self, connection: sa.Connection, phase: str, tables: Sequence[str]) -> list[tuple[str, str, int, Checksum]]:
        return [
            (phase, table, rows, table_checksum(connection, table, leave_out=self._added.get(table)))
            for table, rows in row_counts(connection, tables).items()
            if rows or table in self._before
        ]

    def _record(self, connection: sa.Connection, found: Sequence[tuple[str, str, int, Checksum]]) -> dict[str, TableProof]:
        now = datetime.now(UTC).replace(tzinfo=None)
        connection.execute(
            sa.text(
                "INSERT INTO migration_audit (audit_id, revision, direction, phase, table_name, row_count, fingerprint, seconds,"
                " program_version, created_at) VALUES (:audit_id, :revision, :direction, :phase, :table_name, :row_count,"
                " CAST(:fingerprint AS JSON), :seconds, :program_version, :created_at)"
            ),
            [
                {
                    "audit_id": f"{self._revision}:{self._direction}:{phase}:{table}:{now.isoformat()}",
                    "revision": self._revision,
                    "direction": self._direction,
                    "phase": phase,
                    "table_name": table,
                    "row_count": rows,
                    "fingerprint": json.dumps(checksum.as_json()),
                    "seconds": time.monotonic() - self._started,
                    "program_version": __version__,
                    "created_at": now,
                }
                for phase, table, rows, checksum in found
            ],
        )
        proofs = [TableProof(self._revision, self._direction, *values) for values in found]
        config = self._context.config
        if config is not None:
            config.attributes.setdefault("proofs", []).extend(proofs)
        return {proof.table: proof for proof in proofs if proof.phase in {"before", "after"}}
