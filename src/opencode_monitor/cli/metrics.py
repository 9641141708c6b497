"""Sums for Prometheus, and aggregates that are computed when asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.context import now
from opencode_monitor.cli.render import plain

if TYPE_CHECKING:
    from opencode_monitor.cli.context import State


@click.group(invoke_without_command=True)
@click.option("--textfile", type=click.Path(path_type=Path), metavar="FILE.prom", help="Write to a file, for node_exporter; else printed.")
@click.pass_context
def metrics(context: click.Context, textfile: Path | None) -> None:
    """Show sums and budgets in Prometheus' text format, by provider, model and project; or compute what the import leaves to you."""
    if context.invoked_subcommand is not None:
        return
    from opencode_monitor.exports.files import replacing  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.exports.prometheus import BudgetUse, prometheus_text  # noqa: PLC0415 - as above
    from opencode_monitor.reports.reading import check_budgets  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import BudgetRepository  # noqa: PLC0415 - as above

    state: State = context.obj
    with state.sessions()() as session:
        checked = check_budgets(session, BudgetRepository(session).budgets(), now=now(), tz=state.zone)
        budgets = [BudgetUse(one.budget.name, one.budget.every.value, one.budget.usd, one.check.spent.usd) for one in checked]
        text = prometheus_text(session, budgets)
    if textfile is None:
        # Names are stored text: harmless to a program, not to a terminal.
        click.echo("\n".join(map(plain, text.splitlines())) + "\n" if sys.stdout.isatty() else text, nl=False)
        return
    # Only whole files, and only those that end in .prom, are seen by node_exporter; it runs as another user.
    with replacing(textfile, mode=0o644) as partial:
        partial.write_text(text, encoding="utf-8")


@metrics.command("carried")
@click.option("--session", "session_prefix", metavar="ID", help="For one session; the beginning of its id is enough.")
@click.pass_obj
def carried_costs(state: State, session_prefix: str | None) -> None:
    """Compute carried costs for the sessions that are new, or changed or priced anew since; `carried` shows them."""
    from opencode_monitor.repositories import SessionRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    session_id = None
    with state.sessions(read_only=False)() as session:
        if session_prefix:
            session_id = SessionRepository(session).find(session_prefix).session_id
    click.echo(run_carried(state, session_id=session_id))


def run_carried(state: State, *, session_id: str | None = None) -> str:
    """Compute carried costs with a progress bar on a terminal, and say what was done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415 - heavy imports stay inside commands

    from opencode_monitor.cli.render import console  # noqa: PLC0415 - as above
    from opencode_monitor.ingest.carried import compute_carried  # noqa: PLC0415 - as above

    bar = Progress(
        TextColumn("Carried cost"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console(stderr=True),
        transient=True,
        disable=state.quiet or not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("carried", total=None)
        done = compute_carried(
            state.engine(), session_id=session_id, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    return f"Carried costs of {done.sessions:,} {'session' if done.sessions == 1 else 'sessions'}: {done.rows:,} rows."
