"""The database itself: where it is and stands, whether it is sound, copies of it; `migration.py` has what changes its schema."""

from __future__ import annotations

from pathlib import Path

import click

from opencode_monitor.cli.context import FOUND_SOMETHING, State, confirm, json_option
from opencode_monitor.cli.migration import downgrade, retire_legacy, upgrade
from opencode_monitor.cli.render import envelope, note, plain


@click.group()
def db() -> None:
    """Manage the database."""


db.add_command(upgrade)
db.add_command(downgrade)
db.add_command(retire_legacy)


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
    from opencode_monitor.db.files import require_backup, restore  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.db.revision import HEAD_REVISION, REVISIONS  # noqa: PLC0415 - as above

    require_backup(state.database_url, file)
    if not yes:
        confirm(f"Replace {state.database_file} with {file}?")
    revision = restore(state.database_url, file, wait_seconds=state.wait_seconds)
    click.echo(f"The database is at {revision or 'base'}, as {file} has it.")
    if revision != HEAD_REVISION:
        remedy = "Run: opencode-monitor db upgrade" if revision is None or revision in REVISIONS else "Upgrade the program."
        note(f"This program needs {HEAD_REVISION}. {remedy}", quiet=state.quiet)


def _current(state: State) -> str:
    from opencode_monitor.db.revision import current_revision  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.engine(read_only=True).connect() as connection:
        return current_revision(connection) or "base"
