"""Prices: what is missing, what holds, and the user's own."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.context import State, json_option, now
from opencode_monitor.cli.ranges import parse_when
from opencode_monitor.cli.render import UNKNOWN, console, envelope, plain, table
from opencode_monitor.errors import PriceError

if TYPE_CHECKING:
    from opencode_monitor.repositories import Usage


@click.group()
def pricing() -> None:
    """Show and set prices."""


@pricing.command()
@json_option
@click.pass_obj
def missing(state: State, as_json: bool) -> None:
    """List the models with calls that have no price."""
    from opencode_monitor.pricing.book import NO_MODEL  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import PricingRepository  # noqa: PLC0415 - as above

    with state.sessions()() as session:
        rows = [{"model": model, "calls": calls} for model, calls in PricingRepository(session).missing()]
    if as_json:
        click.echo(envelope("pricing-missing", rows=rows))
        return
    for row in rows:
        model = plain(str(row["model"]))
        hint = "OpenCode does not say which" if model == NO_MODEL else f"opencode-monitor pricing set {model} --input USD --output USD"
        click.echo(f"{row['calls']:>8,} calls  {model}   {hint}")
    if not rows:
        click.echo("Every call has a price.")


@pricing.command()
@click.argument("model")
@json_option
@click.pass_obj
def show(state: State, model: str, as_json: bool) -> None:
    """Show every price of MODEL ("vendor/model"), oldest first; USD per million tokens."""
    from opencode_monitor.pricing.book import find_periods  # noqa: PLC0415 - as above

    with state.sessions()() as session:
        periods = find_periods(model, at=now(), connection=session.connection())
    periods.sort(key=lambda row: (row.effective_from, row.precedence, row.min_context_tokens))
    prices = ("input", "output", "reasoning", "cache_read", "cache_write_5m", "cache_write_1h")
    if as_json:
        names = (
            "price_id",
            "vendor",
            "model",
            "min_context_tokens",
            "effective_from",
            "effective_to",
            "source",
            "status",
        )
        rows = [{name: getattr(row, name) for name in (*names, *(f"{price}_usd_per_mtok" for price in prices))} for row in periods]
        click.echo(envelope("pricing", rows=rows))
        return
    if not periods:
        click.echo(f"No price for {plain(model)}. Set one: opencode-monitor pricing set {plain(model)} --input USD --output USD")
        return
    output = table(
        [
            ("From", "left"),
            ("Context over", "right"),
            *((title, "right") for title in ("Input", "Output", "Reasoning", "Cache read", "Write 5m", "Write 1h")),
            ("Source", "left"),
            ("Status", "left"),
        ]
    )
    for row in periods:
        values = [getattr(row, f"{price}_usd_per_mtok") for price in prices]
        output.add_row(
            row.effective_from.date().isoformat(),
            f"{row.min_context_tokens:,}",
            *(UNKNOWN if value is None else format(value.normalize(), "f") for value in values),
            plain(row.source),
            plain(row.status),
        )
    console().print(output)


@pricing.command("set")
@click.argument("model")
@click.option("--input", "input_price", required=True, metavar="USD", help="Uncached prompt tokens, per million.")
@click.option("--output", "output_price", required=True, metavar="USD", help="Output tokens, per million.")
@click.option("--cache-read", metavar="USD", help="Prompt tokens read from the cache, per million.")
@click.option("--cache-write", metavar="USD", help="Prompt tokens written to the cache, per million.")
@click.option("--reasoning", metavar="USD", help="Reasoning tokens, per million; default: as output.")
@click.option("--from", "start", metavar="WHEN", help="The first day on which it holds; default: for all time.")
@click.option("--reprice", "again", is_flag=True, help="Price all calls anew, also those that had a price.")
@click.pass_obj
def set_(
    state: State,
    model: str,
    input_price: str,
    output_price: str,
    cache_read: str | None,
    cache_write: str | None,
    reasoning: str | None,
    start: str | None,
    again: bool,
) -> None:
    """Set your own price of MODEL ("vendor/model" as OpenCode writes it); it wins over every other source.

    Calls without a price are priced at once. Calls that have one keep it, unless --reprice is given.
    """
    from opencode_monitor.cli.importing import prepare_database  # noqa: PLC0415 - as above
    from opencode_monitor.ingest.settle import backfill, reprice  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.book import seed_price_book  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.catalog import user_period  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import CostRepository, PricingRepository  # noqa: PLC0415 - as above

    vendor, slash, name = model.partition("/")
    if not slash:
        raise PriceError(f"{model!r} has no vendor. Write vendor/model as OpenCode does, such as deepseek/deepseek-chat.")
    moment = now()
    period = user_period(
        vendor,
        name,
        input=input_price,
        output=output_price,
        cache_read=cache_read,
        cache_write=cache_write,
        reasoning=reasoning,
        effective_from=None if start is None else parse_when(start, tz=state.zone, now=moment),
    )
    prepare_database(state)
    with state.sessions(read_only=False).begin() as session:
        connection = session.connection()
        before = CostRepository(session).total()
        seed_price_book(connection, now=moment)
        PricingRepository(session).add([period], now=moment)
        (reprice if again else backfill)(connection, now=moment)
        after = CostRepository(session).total()
    click.echo(f"Set {plain(model)}. Total cost {_show(before)} before, {_show(after)} now.")


def _show(usage: Usage) -> str:
    cost = UNKNOWN if usage.cost_usd is None else f"${usage.cost_usd.quantize(Decimal('0.000001')):f}"
    return f"{cost} ({usage.unpriced_calls:,} calls unpriced)"
