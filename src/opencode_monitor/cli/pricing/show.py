"""What holds, and what has no price: pricing list, show, missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.context import State, json_option, now
from opencode_monitor.cli.pricing.common import as_objects, print_prices
from opencode_monitor.cli.ranges import parse_when
from opencode_monitor.cli.render import envelope, note, plain

if TYPE_CHECKING:
    from opencode_monitor.pricing.catalog import PricePeriod


@click.command()
@json_option
@click.pass_obj
def missing(state: State, as_json: bool) -> None:
    """List the models with calls that have no price."""
    from opencode_monitor.pricing.book import NO_MODEL  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import PricingRepository  # noqa: PLC0415 - as above

    with state.sessions()() as session:
        repository = PricingRepository(session)
        rows = [{"model": model, "calls": calls} for model, calls in repository.missing()]
        modes = {alias.model_id: alias.mode for alias in repository.aliases() if alias.mode}
    if as_json:
        click.echo(envelope("pricing-missing", rows=rows))
        return
    for row in rows:
        model = plain(str(row["model"]))
        mode = modes.get(str(row["model"]))
        why = "" if mode is None else f"   (aliased to {plain(mode)} prices, and there are none at that time)"
        hint = "OpenCode does not say which" if model == NO_MODEL else f"opencode-monitor pricing set {model} --input USD --output USD{why}"
        click.echo(f"{row['calls']:>8,} {'call ' if row['calls'] == 1 else 'calls'}  {model}   {hint}")
    if not rows:
        click.echo("Every call has a price.")
    elif any(row["model"] != NO_MODEL for row in rows):
        advice = "Calls that read or wrote a cache need --cache-read and --cache-write too: what is not given is unknown, not 0."
        note(advice, quiet=state.quiet)


@click.command("list")
@click.option("--provider", metavar="ID", help="Of this provider.")
@click.option("--model", metavar="GLOB", help="Of models like this, such as 'claude-*'.")
@click.option("--at", metavar="WHEN", help="In force then; default: now.")
@json_option
@click.pass_obj
def list_(state: State, provider: str | None, model: str | None, at: str | None, as_json: bool) -> None:
    """List the prices in force, in every mode and context tier; USD per million tokens."""
    from opencode_monitor.pricing.catalog import rows_in_force  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import PricingRepository  # noqa: PLC0415 - as above

    moment = now() if at is None else parse_when(at, tz=state.zone, now=now())
    with state.sessions()() as session:
        rows = rows_in_force(PricingRepository(session).find(provider=provider, model=model), moment)
    rows.sort(key=lambda row: (row.vendor, row.model, row.mode != "standard", row.mode, row.min_context_tokens, row.price_id))
    if as_json:
        click.echo(envelope("pricing-list", rows=as_objects(rows)))
        return
    if not rows:
        click.echo("The book has no such price.")
        return
    print_prices(
        [("Model", "left"), ("Mode", "left")],
        [((plain(f"{row.vendor}/{row.model}"), plain(row.mode)), row, _unconfirmed(row)) for row in rows],
    )


@click.command()
@click.argument("model")
@click.option("--at", metavar="WHEN", help="Only what prices a call made then.")
@json_option
@click.pass_obj
def show(state: State, model: str, at: str | None, as_json: bool) -> None:
    """Show every price of MODEL ("vendor/model"), oldest first; USD per million tokens.

    A * marks what prices a call made now. What was replaced by a later edition of itself is marked so.
    """
    from opencode_monitor.pricing.catalog import current_rows, price_cells  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.lookup import find_periods  # noqa: PLC0415 - as above

    moment = now() if at is None else parse_when(at, tz=state.zone, now=now())
    with state.sessions()() as session:
        periods = find_periods(model, at=moment, connection=session.connection())
    cells = price_cells(periods, mode=None)
    in_force = {cell.price_id for cell in cells if cell.valid_from <= moment < cell.valid_to}
    current = {row.price_id for row in current_rows(periods)}
    if at is not None:
        periods = [row for row in periods if row.price_id in in_force]
    periods.sort(key=lambda row: (row.effective_from, row.precedence, row.min_context_tokens, row.price_id))
    if as_json:
        rows = as_objects(periods)
        for row in rows:
            row["prices_calls"] = row["price_id"] in in_force
            row["is_replaced"] = row["price_id"] not in current
        click.echo(envelope("pricing", rows=rows))
        return
    if not periods:
        when = "" if at is None else f" at {moment:%Y-%m-%d %H:%M}"
        click.echo(f"No price for {plain(model)}{when}. Set one: opencode-monitor pricing set {plain(model)} --input USD --output USD")
        return
    modes = [] if all(period.mode == "standard" for period in periods) else [("Mode", "left")]
    print_prices(
        [("", "left"), *modes],
        [
            (
                ("*" if row.price_id in in_force else "", *(plain(row.mode) for _ in modes)),
                row,
                _unconfirmed(row) if row.price_id in current else "replaced",
            )
            for row in periods
        ],
    )
    others = sorted({f"{row.vendor}/{row.model}" for row in periods} - {model})
    if others:
        click.echo(f"As {plain(', '.join(others))}.")


def _unconfirmed(row: PricePeriod) -> str:
    return "" if row.status == "confirmed" else plain(row.status)
