"""What changes the schema: upgrade, downgrade, retire-legacy. Each holds the one lock of `db.lock` from its first look to its last."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.context import State, confirm, json_option, now
from opencode_monitor.cli.output import View, print_view
from opencode_monitor.cli.progress import shown_phases
from opencode_monitor.cli.ranges import parse_age
from opencode_monitor.cli.render import UNKNOWN, console, envelope, note, plain
from opencode_monitor.errors import DatabaseError, SchemaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import sqlalchemy as sa

    from opencode_monitor.integrity.comparison import TableChange

_MEGABYTE = 1_000_000

no_backup_option = click.option("--no-backup", is_flag=True, help="Do not copy the file first.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of revisions, and what it did to the tables."""

    start: str
    end: str
    backup: Path | None
    seconds: float
    moved_rows: int | None
    changes: Sequence[TableChange]


@click.command()
@click.argument("revision", default="head")
@no_backup_option
@json_option
@click.pass_obj
def upgrade(state: State, revision: str, no_backup: bool, as_json: bool) -> None:
    """Bring the database up to REVISION, and price and aggregate what is there.

    A DuckDB file with something to migrate is copied first, to `<file>.<revision>.<time>.bak`. It ends with a table of what each table held
    before and after.
    """
    from opencode_monitor.db.lock import migration_connection  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.db.revision import HEAD_REVISION, REVISIONS, current_revision  # noqa: PLC0415 - as above
    from opencode_monitor.ingest.settle import settle_database  # noqa: PLC0415 - as above

    if revision not in {"head", *REVISIONS}:
        raise UsageError(f"no revision {revision!r}. There are: {', '.join(REVISIONS)}, head.")
    target = HEAD_REVISION if revision == "head" else revision
    with migration_connection(state.database_url, wait_seconds=state.wait_seconds) as connection:
        run = _run(state, connection, target, backs_up=not no_backup, is_upgrade=True)
        if run.end == HEAD_REVISION:
            with connection.begin():
                settle_database(connection, now=now())
        end = current_revision(connection) or "base"
    _report("upgrade", run, end, as_json=as_json)


# "-1" is a revision here, and no option.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("revision")
@no_backup_option
@yes_option
@json_option
@click.pass_obj
def downgrade(state: State, revision: str, no_backup: bool, yes: bool, as_json: bool) -> None:
    """Take the database down to REVISION (a name, -1, or base), and lose what only later revisions can hold.

    A DuckDB file is copied first, to `<file>.<revision>.<time>.bak`. It ends with a table of what each table held before and after.
    """
    from opencode_monitor.db.engine import mask_url  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.db.lock import migration_connection  # noqa: PLC0415 - as above
    from opencode_monitor.db.revision import REVISIONS  # noqa: PLC0415 - as above

    if revision not in {"base", *REVISIONS, *(f"-{steps}" for steps in range(1, len(REVISIONS) + 1))}:
        raise UsageError(f"no revision {revision!r}. There are: base, {', '.join(REVISIONS)}, -1.")
    if not state.database_exists():
        raise SchemaError(f"no database at {state.database_file}.", hint="Run: opencode-monitor db upgrade && opencode-monitor import")
    if not yes:
        with migration_connection(state.database_url, wait_seconds=state.wait_seconds) as connection:
            question = f"Take {mask_url(state.database_url)} from {_revision(connection)} down to {revision}?"
        confirm(question)
    with migration_connection(state.database_url, wait_seconds=state.wait_seconds) as connection:
        run = _run(state, connection, revision, backs_up=not no_backup, is_upgrade=False)
    _report("downgrade", run, run.end, as_json=as_json)


@click.command("retire-legacy")
@click.option("--after", default="7d", show_default=True, metavar="TIME", help="How long after its migration the old table stays.")
@yes_option
@json_option
@click.pass_obj
def retire_legacy(state: State, after: str, yes: bool, as_json: bool) -> None:
    """Drop parts_legacy, the table of 29 columns, when its time is over and everything is proven; a DuckDB file then shrinks.

    Refuses while the migration is younger than TIME, or `db verify` finds something. `db downgrade` works without parts_legacy too.
    """
    from opencode_monitor.db.compact import replace_without  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.db.files import require_free_space  # noqa: PLC0415 - as above
    from opencode_monitor.db.lock import migration_connection  # noqa: PLC0415 - as above
    from opencode_monitor.db.revision import require_head  # noqa: PLC0415 - as above
    from opencode_monitor.integrity.fingerprint import PARTS_LEGACY  # noqa: PLC0415 - as above
    from opencode_monitor.integrity.retirement import database_size, has_legacy, obstacle  # noqa: PLC0415 - as above

    keep = parse_age(after)
    if not state.database_exists():
        raise SchemaError(f"no database at {state.database_file}.", hint="Run: opencode-monitor db upgrade && opencode-monitor import")
    # Behind a link the file itself: the rename would replace the link.
    file = state.database_file.resolve() if state.database_file else None
    if not yes:
        confirm(f"Drop {PARTS_LEGACY} of {file or 'the database'} for good?")
    with migration_connection(state.database_url, wait_seconds=state.wait_seconds) as connection:
        require_head(connection)
        if not has_legacy(connection):
            raise DatabaseError(f"there is no {PARTS_LEGACY}: it was retired before")
        reason = obstacle(connection, keep=keep, now=now())
        before = database_size(connection)
        connection.rollback()
        if reason is not None:
            raise DatabaseError(reason)
        if file is None:
            with connection.begin():
                connection.exec_driver_sql(f"DROP TABLE {PARTS_LEGACY}")
            after_bytes = database_size(connection)
        else:
            require_free_space(file, "copy", 1.0)
            with shown_phases(quiet=state.quiet) as show:
                replace_without(connection, file, PARTS_LEGACY, progress=show)
            after_bytes = file.stat().st_size
    if as_json:
        click.echo(envelope("retire-legacy", rows=[], totals={"bytes_before": before, "bytes_after": after_bytes}))
    else:
        click.echo(
            f"{PARTS_LEGACY} is retired. The database takes {after_bytes / _MEGABYTE:,.1f} MB; it took {before / _MEGABYTE:,.1f} MB."
        )


def _run(state: State, connection: sa.Connection, target: str, *, backs_up: bool, is_upgrade: bool) -> _Run:
    """Run revisions, with a backup before and a comparison after."""
    from opencode_monitor.db import migrate  # noqa: PLC0415 - Alembic takes a second
    from opencode_monitor.db.revision import REVISIONS, current_revision, newer_schema  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.integrity.comparison import MOVED_FAMILY, compare, moves_parts  # noqa: PLC0415 - as above
    from opencode_monitor.integrity.fingerprint import take_states  # noqa: PLC0415 - as above

    started = time.monotonic()
    start = _revision(connection)
    end = _resolve(target, start)
    history = ("base", *REVISIONS)
    if start not in history:
        raise newer_schema(start)
    steps = history.index(end) - history.index(start)
    if not (steps > 0 if is_upgrade else steps < 0):
        return _Run(start, start, None, 0.0, None, ())
    moves = moves_parts(start, end)
    backs_up = backs_up and start != "base"
    _require_room(state, moves=moves, backs_up=backs_up)
    backup = _back_up_before(state, connection, start) if backs_up else None
    # Where no row moves, to read them all twice would take longer than the revisions, with the lock held.
    count_only = MOVED_FAMILY if moves else None
    with shown_phases(quiet=state.quiet) as show:
        before = take_states(connection, count_only=count_only, progress=show)
        connection.rollback()
        run = migrate.upgrade if is_upgrade else migrate.downgrade
        proofs = run(state.database_url, end, wait_seconds=state.wait_seconds, progress=show, connection=connection)
        after = take_states(connection, count_only=count_only, progress=show)
    reached = current_revision(connection) or "base"
    connection.rollback()
    changes = compare(before, after, proofs)
    moved = next((proof.rows for proof in proofs if proof.phase == "before" and proof.table == migrate.MOVED_TABLE), None)
    return _Run(start, reached, backup, time.monotonic() - started, moved, changes)


def _revision(connection: sa.Connection) -> str:
    from opencode_monitor.db.revision import current_revision  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    revision = current_revision(connection) or "base"
    # Alembic begins the transactions of a migration itself.
    connection.rollback()
    return revision


def _resolve(target: str, start: str) -> str:
    """Return the revision that "-1" and the like mean."""
    from opencode_monitor.db.revision import REVISIONS  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    history = ("base", *REVISIONS)
    if not target.startswith("-") or start not in history:
        return target
    place = history.index(start) + int(target)
    if place < 0:
        raise UsageError(f"there are no {-int(target)} revisions below {start}")
    return history[place]


def _require_room(state: State, *, moves: bool, backs_up: bool) -> None:
    """Refuse revisions of a DuckDB file where the disk would run full on the way; the backup lies on the same disk."""
    from opencode_monitor.db.files import FREE_SPACE_FACTOR, require_free_space  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    if state.database_file is not None:
        # Revisions that move no parts rewrite a few tables at most.
        factor = (FREE_SPACE_FACTOR if moves else 1.0) + (1.0 if backs_up else 0.0)
        require_free_space(state.database_file.resolve(), "migration with its backup" if backs_up else "migration", factor)


def _back_up_before(state: State, connection: sa.Connection, revision: str) -> Path | None:
    """Copy a DuckDB file, to beside where it lies."""
    from opencode_monitor.db.files import back_up, backup_name  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    file = state.database_file
    if file is None:
        if connection.dialect.name == "postgresql":
            note("No backup is made of a database on a server. Have one: pg_dump", quiet=state.quiet)
        return None
    target = backup_name(file.resolve(), revision, now())
    back_up(state.database_url, target, connection=connection)
    note(f"A backup is at {target}", quiet=state.quiet)
    return target


def _report(command: str, run: _Run, end: str, *, as_json: bool) -> None:
    """Print what each table held before and after, and fail where a table is not what it was.

    Raises:
        DatabaseError: Checksums differ.
    """
    unequal = [change.table for change in run.changes if change.equal is False]
    if as_json:
        totals = {
            "revision_before": run.start,
            "revision_after": end,
            "moved_rows": run.moved_rows,
            "seconds": round(run.seconds, 1),
            "backup": str(run.backup) if run.backup else None,
        }
        click.echo(envelope(command, rows=run.changes, totals=totals, warnings=[f"{table} is not what it was" for table in unequal]))
    else:
        if run.changes:
            if run.moved_rows is None:
                click.echo("Nothing to move: these revisions leave the rows where they are.")
            print_view(console(), _table(run.changes))
        click.echo(f"The database is at {end}.")
    if unequal:
        remedy = f"opencode-monitor db restore {run.backup}" if run.backup else "restore your backup"
        raise DatabaseError(f"not what they were before: {', '.join(unequal)}. To go back: {remedy}")


def _table(changes: Sequence[TableChange]) -> View:
    headers = [
        ("table", "left"),
        ("rows before", "right"),
        ("rows after", "right"),
        ("checksum before", "whole"),
        ("checksum after", "whole"),
        ("equal", "whole"),
        ("", "left"),
    ]
    rows = [
        [
            plain(change.table),
            UNKNOWN if change.rows_before is None else f"{change.rows_before:,}",
            UNKNOWN if change.rows_after is None else f"{change.rows_after:,}",
            change.checksum_before or UNKNOWN,
            change.checksum_after or UNKNOWN,
            {True: "yes", False: "NO", None: UNKNOWN}[change.equal],
            change.remark,
        ]
        for change in changes
    ]
    return View(headers, rows)
