"""The database itself: upgrade, downgrade, current, path, verify, backup, restore."""

from __future__ import annotations

from pathlib import Path

import click

from opencode_monitor.cli.context import FOUND_SOMETHING, State, json_option, now
from opencode_monitor.cli.render import envelope, note, plain
from opencode_monitor.errors import UsageError


@click.group()
def db() -> None:
    """Manage the database."""


@db.command()
@click.argument("revision", default="head")
@click.option("--no-backup", is_flag=True, help="Do not copy the file first.")
@click.pass_obj
def upgrade(state: State, revision: str, no_backup: bool) -> None:
    """Bring the database up to REVISION, and price and aggregate what is there.

    A DuckDB file with something to migrate is copied first, to `<file>.<revision>.<time>.bak`.
    """
    from opencode_monitor.db.migrate import upgrade as run_upgrade  # noqa: PLC0415 - Alembic takes a second
    from opencode_monitor.db.revision import HEAD_REVISION, REVISIONS  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.ingest.settle import backfill  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.book import seed_price_book  # noqa: PLC0415 - as above

    if revision not in {"head", *REVISIONS}:
        raise UsageError(f"no revision {revision!r}. There are: {', '.join(REVISIONS)}, head.")
    if not no_backup:
        _back_up_before(state)
    run_upgrade(state.database_url, revision, wait_seconds=state.wait_seconds)
    if revision in {"head", HEAD_REVISION}:
        with state.sessions(read_only=False).begin() as session:
            seed_price_book(session.connection(), now=now())
            backfill(session.connection(), now=now())
    click.echo(f"The database is at {_current(state)}.")


@db.command()
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def downgrade(state: State, revision: str, yes: bool) -> None:
    """Take the database down to REVISION (a name, -1, or base)."""
    from opencode_monitor.db.engine import mask_url  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.db.migrate import downgrade as run_downgrade  # noqa: PLC0415 - Alembic takes a second
    from opencode_monitor.db.revision import REVISIONS  # noqa: PLC0415 - as above

    if revision not in {"base", *REVISIONS, *(f"-{steps}" for steps in range(1, len(REVISIONS) + 1))}:
        raise UsageError(f"no revision {revision!r}. There are: base, {', '.join(REVISIONS)}, -1.")
    if not yes:
        click.confirm(f"Take {mask_url(state.database_url)} from {_current(state)} down to {revision}?", abort=True, err=True)
    run_downgrade(state.database_url, revision, wait_seconds=state.wait_seconds)
    click.echo(f"The database is at {_current(state)}.")


@db.command()
@click.pass_obj
def current(state: State) -> None:
    """Print the revision that the database stands at."""
    click.echo(_current(state))


@db.command()
@click.pass_obj
def path(state: State) -> None:
    """Print where the database is."""
    from opencode_monitor.db.engine import mask_url  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    click.echo(state.database_file or mask_url(state.database_url))


@db.command()
@json_option
@click.pass_obj
def verify(state: State, as_json: bool) -> int:
    """Run every check of the database; exit 3 if one finds something."""
    from opencode_monitor.integrity.checks import run_checks  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.sessions()() as session:
        results = run_checks(session.connection())
    found = sum(result.count for result in results)
    if as_json:
        rows = [{"check": result.check, "question": result.question, "findings": result.count} for result in results]
        findings = [f"{one.check}: {one.subject}: {one.detail}" for result in results for one in result.findings]
        click.echo(envelope("verify", rows=rows, totals={"findings": found}, warnings=findings))
    else:
        for result in results:
            click.echo(f"{'FAIL' if result.count else 'ok':5} {result.check:14} {result.question}")
            for finding in result.findings:
                click.echo(f"        {plain(finding.subject)}: {plain(finding.detail)}")
            if result.count > len(result.findings):
                click.echo(f"        … and {result.count - len(result.findings):,} more")
    return FOUND_SOMETHING if found else 0


@db.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def backup(state: State, file: Path) -> None:
    """Copy the database to FILE, and open the copy to see that it is one (DuckDB; on PostgreSQL use pg_dump)."""
    from opencode_monitor.db.files import back_up  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    revision = back_up(state.database_url, file, wait_seconds=state.wait_seconds)
    click.echo(f"{file} is a copy at {revision or 'base'}.")


@db.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def restore_(state: State, file: Path, yes: bool) -> None:
    """Put the backup FILE in the database's place; what was written since is lost."""
    from opencode_monitor.db.files import restore  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    if not yes:
        click.confirm(f"Replace {state.database_file} with {file}?", abort=True, err=True)
    revision = restore(state.database_url, file, wait_seconds=state.wait_seconds)
    click.echo(f"The database is at {revision or 'base'}, as {file} has it.")


def _back_up_before(state: State) -> None:
    """Copy a DuckDB file that is behind, after a look at the room that its migration takes."""
    from opencode_monitor.db.files import back_up, backup_name, require_free_space  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.db.revision import HEAD_REVISION  # noqa: PLC0415 - as above

    file = state.database_file
    if file is None or not file.exists():
        return
    revision = _current(state)
    if revision in {"base", HEAD_REVISION}:
        return
    require_free_space(file)
    target = backup_name(file, revision, now())
    back_up(state.database_url, target, wait_seconds=state.wait_seconds)
    note(f"A backup is at {target}", quiet=state.quiet)


def _current(state: State) -> str:
    from opencode_monitor.db.revision import current_revision  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.engine(read_only=True).connect() as connection:
        return current_revision(connection) or "base"
