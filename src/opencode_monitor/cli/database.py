"""The database itself: upgrade, downgrade, current, path."""

from __future__ import annotations

import click

from opencode_monitor.cli.context import State, now
from opencode_monitor.errors import UsageError


@click.group()
def db() -> None:
    """Manage the database."""


@db.command()
@click.argument("revision", default="head")
@click.pass_obj
def upgrade(state: State, revision: str) -> None:
    """Bring the database up to REVISION, and price and aggregate what is there."""
    from opencode_monitor.db.migrate import upgrade as run_upgrade  # noqa: PLC0415 - Alembic takes a second
    from opencode_monitor.db.revision import HEAD_REVISION, REVISIONS  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.ingest.settle import backfill  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.book import seed_price_book  # noqa: PLC0415 - as above

    if revision not in {"head", *REVISIONS}:
        raise UsageError(f"no revision {revision!r}. There are: {', '.join(REVISIONS)}, head.")
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
    from opencode_monitor.db.migrate import downgrade as run_downgrade  # noqa: PLC0415 - Alembic takes a second
    from opencode_monitor.db.revision import REVISIONS  # noqa: PLC0415 - as above

    if revision not in {"base", *REVISIONS, *(f"-{steps}" for steps in range(1, len(REVISIONS) + 1))}:
        raise UsageError(f"no revision {revision!r}. There are: base, {', '.join(REVISIONS)}, -1.")
    if not yes:
        click.confirm(f"Take {state.database_url} from {_current(state)} down to {revision}?", abort=True, err=True)
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


def _current(state: State) -> str:
    from opencode_monitor.db.revision import current_revision  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.engine(read_only=True).connect() as connection:
        return current_revision(connection) or "base"
