"""Price calls anew that have a price: pricing reprice."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import State, confirm, json_option, now
from opencode_monitor.cli.pricing.common import price_book, print_rows, show_exact
from opencode_monitor.cli.ranges import resolve_range, to_utc
from opencode_monitor.cli.render import count_of, envelope, plain
from opencode_monitor.cli.statusline import renew_sums
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opencode_monitor.ingest.repricing import RepricedDay

_LAST = "last"


@click.command()
@click.option("--model", metavar="GLOB", help="Only calls of models like this: 'anthropic/*', 'claude-*'.")
@click.option("--since", metavar="WHEN", help="Only calls from this day on.")
@click.option("--until", metavar="WHEN", help="Only calls up to this day, included.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--undo", is_flag=False, flag_value=_LAST, metavar="[RUN]", help="Put back what calls cost before a run; default: the last one."
)
@click.option("--runs", is_flag=True, help="List the runs.")
@json_option
@click.pass_obj
def reprice(
    state: State,
    model: str | None,
    since: str | None,
    until: str | None,
    reason: str,
    dry_run: bool,
    yes: bool,
    undo: str | None,
    runs: bool,
    as_json: bool,
) -> None:
    """Price calls anew, each by the price that the book has for its own time today.

    Old and new totals of each model and day are shown first. Every call's old price is kept, and --undo puts it back.
    """
    if runs:
        _list_runs(state, as_json=as_json)
    elif undo is not None:
        _undo(state, None if undo == _LAST else undo, as_json=as_json)
    else:
        _reprice(state, model, since, until, reason, dry_run=dry_run, yes=yes, as_json=as_json)


def _reprice(
    state: State,
    model: str | None,
    since: str | None,
    until: str | None,
    reason: str,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from opencode_monitor.ingest.repricing import RepriceScope, plan_repricing, reprice  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    moment = now()
    chosen = resolve_range(since=since, until=until, last=None, tz=state.zone, now=moment, default_last="all")
    scope = RepriceScope(model=model, start=to_utc(chosen.start), end=to_utc(chosen.end))
    with price_book(state) as session:
        connection = session.connection()
        days = plan_repricing(connection, scope, tz=state.zone.key)
        if not as_json:
            _print_days(days)
        run_id = None
        if days and not dry_run:
            _ask(days, yes=yes)
            run_id = reprice(connection, scope, reason=reason, now=moment)
    if as_json:
        totals = {"run": run_id, "calls": sum(day.calls for day in days), **_totals(days)}
        click.echo(envelope("pricing-reprice", rows=days, totals=totals, report_range=chosen.as_json(), tz=chosen.tz))
    elif run_id is not None:
        click.echo(f"Priced anew as run {run_id}. Undo: opencode-monitor pricing reprice --undo {run_id}")


def _ask(days: Sequence[RepricedDay], *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("Pricing anew changes recorded costs. Look first with --dry-run, then say --yes.")
    confirm(f"Price {count_of(sum(day.calls for day in days), 'call')} anew?")


def _totals(days: Sequence[RepricedDay]) -> dict[str, Any]:
    """Sum what is known; None where nothing is, as of a day."""
    return {
        "old_cost_usd": _sum_known([day.old_cost_usd for day in days]),
        "new_cost_usd": _sum_known([day.new_cost_usd for day in days]),
        "newly_priced": sum(day.newly_priced for day in days),
        "unpriced": sum(day.unpriced for day in days),
    }


def _sum_known(costs: Sequence[Decimal | None]) -> Decimal | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if known or not costs else None


def _show_sum(cost: Decimal | None, unknown_calls: int) -> str:
    """Show a cost that calls without a price are missing from as the least that it can be."""
    return f"≥ {show_exact(cost)}" if cost is not None and unknown_calls else show_exact(cost)


def _print_days(days: Sequence[RepricedDay]) -> None:
    if not days:
        click.echo("Every call has the price that the book has for it.")
        return
    titles = (
        ("Model", "left"),
        ("Day", "left"),
        ("Calls", "right"),
        ("Old", "right"),
        ("New", "right"),
        ("Had none", "right"),
        ("Has none", "right"),
    )
    cells = [
        [
            plain(day.model),
            "—" if day.day is None else day.day.isoformat(),
            f"{day.calls:,}",
            _show_sum(day.old_cost_usd, day.newly_priced),
            _show_sum(day.new_cost_usd, day.unpriced),
            f"{day.newly_priced:,}",
            f"{day.unpriced:,}",
        ]
        for day in days
    ]
    totals = _totals(days)
    whole = [
        "Total",
        "",
        f"{sum(day.calls for day in days):,}",
        _show_sum(totals["old_cost_usd"], totals["newly_priced"]),
        _show_sum(totals["new_cost_usd"], totals["unpriced"]),
        f"{totals['newly_priced']:,}",
        f"{totals['unpriced']:,}",
    ]
    print_rows(titles, [*cells, whole])


def _undo(state: State, run_id: str | None, *, as_json: bool) -> None:
    from opencode_monitor.ingest.repricing import undo_repricing  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.sessions(read_only=False).begin() as session:
        undone = undo_repricing(session.connection(), run_id, now=now())
    renew_sums(state)
    if as_json:
        click.echo(envelope("pricing-undo", rows=[undone]))
        return
    restored = count_of(undone.restored, "call costs again what it did", "calls cost again what they did")
    since = ("call was read or priced anew since and keeps its price", "calls were read or priced anew since and keep their price")
    kept = f" {count_of(undone.kept, *since)}." if undone.kept else ""
    click.echo(f"Undid run {plain(undone.run_id)}: {restored}.{kept}")


def _list_runs(state: State, *, as_json: bool) -> None:
    from opencode_monitor.repositories import PricingRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    names = ("run_id", "created_at", "reason", "scope", "calls", "old_cost_usd", "new_cost_usd", "undone_at")
    with state.sessions()() as session:
        prices = PricingRepository(session)
        unknown = prices.unknown_of_runs()
        rows = [
            {**{name: getattr(run, name) for name in names}, "newly_priced": newly_priced, "unpriced": unpriced}
            for run in prices.runs()
            for newly_priced, unpriced in [unknown.get(run.run_id, (0, 0))]
        ]
    if as_json:
        click.echo(envelope("pricing-runs", rows=rows))
        return
    for row in rows:
        undone = "" if row["undone_at"] is None else "  (undone)"
        costs = f"{_show_sum(row['old_cost_usd'], row['newly_priced'])} → {_show_sum(row['new_cost_usd'], row['unpriced'])}"
        click.echo(plain(f"{row['run_id']}  {count_of(row['calls'], 'call')}  {costs}  {row['scope']}  {row['reason']}".rstrip() + undone))
    if not rows:
        click.echo("Nothing was ever priced anew.")
