"""The user's own prices: pricing set, alias."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from opencode_monitor.cli.context import State, json_option, now
from opencode_monitor.cli.pricing.common import MODE_NAMES, as_objects, price_book, say_priced, show_cost, split_model
from opencode_monitor.cli.ranges import parse_when
from opencode_monitor.cli.render import count_of, envelope, note, plain
from opencode_monitor.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from opencode_monitor.pricing.catalog import Mode


@click.command("set")
@click.argument("model")
@click.option("--input", "input_price", required=True, metavar="USD", help="Uncached prompt tokens, per million.")
@click.option("--output", "output_price", required=True, metavar="USD", help="Output tokens, per million.")
@click.option("--cache-read", metavar="USD", help="Prompt tokens read from the cache, per million.")
@click.option("--cache-write", metavar="USD", help="Prompt tokens written to the cache, per million.")
@click.option("--cache-write-1h", metavar="USD", help="Prompt tokens written to a cache that lives an hour, per million.")
@click.option("--reasoning", metavar="USD", help="Reasoning tokens, per million; default: as output.")
@click.option("--mode", default="standard", show_default=True, metavar="MODE", help="standard, batch, priority, flex or fast.")
@click.option("--context-over", type=int, default=0, metavar="TOKENS", help="Only for prompts of more tokens than this.")
@click.option("--from", "start", metavar="WHEN", help="The first day on which it holds; default: for all time.")
@click.option("--to", "end", metavar="WHEN", help="The last day on which it holds; default: until your next one begins.")
@click.option("--replace", is_flag=True, help="Take the place of your price that begins on the same day.")
@json_option
@click.pass_obj
def set_(
    state: State,
    model: str,
    input_price: str,
    output_price: str,
    cache_read: str | None,
    cache_write: str | None,
    cache_write_1h: str | None,
    reasoning: str | None,
    mode: str,
    context_over: int,
    start: str | None,
    end: str | None,
    replace: bool,
    as_json: bool,
) -> None:
    """Set your own price of MODEL ("vendor/model" as OpenCode writes it); it wins over every other source.

    Calls without a price are priced at once. Calls that have one keep it, until you price them anew: pricing reprice.
    """
    from opencode_monitor.ingest.settle import backfill  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.pricing.catalog import user_period  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import CostRepository, PricingRepository  # noqa: PLC0415 - as above

    vendor, name = split_model(model)
    moment = now()
    period = user_period(
        vendor,
        name,
        input=input_price,
        output=output_price,
        cache_read=cache_read,
        cache_write=cache_write,
        cache_write_1h=cache_write_1h,
        reasoning=reasoning,
        mode=mode,
        min_context_tokens=context_over,
        effective_from=None if start is None else parse_when(start, tz=state.zone, now=moment),
        effective_to=None if end is None else parse_when(end, tz=state.zone, now=moment, is_end=True),
    )
    with price_book(state) as session:
        before = CostRepository(session).total()
        PricingRepository(session).set([period], now=moment, replacing=replace)
        backfill(session.connection(), now=moment)
        after = CostRepository(session).total()
        left = dict(PricingRepository(session).missing()).get(model, 0)
    if as_json:
        totals = {"cost_before_usd": before.cost_usd, "cost_usd": after.cost_usd, "unpriced_calls": after.unpriced_calls}
        click.echo(envelope("pricing-set", rows=as_objects([period]), totals=totals))
    else:
        click.echo(f"Set {plain(model)}. Total cost {show_cost(before)} before, {show_cost(after)} now.")
        if left:
            advice = "give every kind of token that they used a price (--cache-read, --cache-write, ...), with --replace."
            note(f"{count_of(left, 'call')} of it still without a price: {advice}", quiet=state.quiet)


@click.command()
@click.argument("model", required=False)
@click.argument("target", required=False)
@click.option("--mode", type=click.Choice(MODE_NAMES), default="standard", show_default=True, help="Which mode's prices are meant.")
@click.option("--remove", is_flag=True, help="Take the alias of MODEL back.")
@json_option
@click.pass_obj
def alias(state: State, model: str | None, target: str | None, mode: str, remove: bool, as_json: bool) -> None:
    """Let the prices of TARGET hold for calls of MODEL (both "vendor/model"); without arguments, list your aliases.

    It wins over the rules that find a model's prices, and over the packaged prices under the model's own name; a price that you set for
    the model wins over it. Calls that have a price keep it: pricing reprice.
    """
    from opencode_monitor.ingest.settle import backfill  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.pricing.book import remove_alias, set_alias  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.seeds import Entry  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import CostRepository  # noqa: PLC0415 - as above

    if model is None:
        _list_aliases(state, as_json=as_json)
        return
    if remove == (target is not None):
        raise UsageError("Name the model and what prices it, or the model and --remove.")
    split_model(model)
    moment = now()
    with price_book(state) as session:
        connection = session.connection()
        before = CostRepository(session).total()
        if target is None:
            if not remove_alias(connection, model):
                raise NotFoundError(f"{model} has no alias of yours.", hint="List them: opencode-monitor pricing alias")
        else:
            set_alias(connection, model, Entry(*split_model(target), cast("Mode", mode)))
        backfill(connection, now=moment)
        after = CostRepository(session).total()
    priced = before.unpriced_calls - after.unpriced_calls
    if as_json:
        row = {"model": model, "target": target, "mode": None if remove else mode, "calls_priced": priced}
        click.echo(envelope("pricing-alias", rows=[row]))
    elif target is None:
        click.echo(f"{plain(model)} is priced by the rules again.")
    else:
        in_mode = "" if mode == "standard" else f" in {mode} mode"
        click.echo(f"{plain(model)} costs what {plain(target)} costs{in_mode}. {say_priced(priced)}")


def _list_aliases(state: State, *, as_json: bool) -> None:
    from opencode_monitor.repositories import PricingRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.sessions()() as session:
        rows = [
            {"model": row.model_id, "target": f"{row.price_vendor}/{row.price_model}", "mode": row.mode or "standard"}
            for row in PricingRepository(session).aliases()
        ]
    if as_json:
        click.echo(envelope("pricing-aliases", rows=rows))
        return
    for row in rows:
        click.echo(f"{plain(row['model'])} costs what {plain(row['target'])} costs ({plain(row['mode'])})")
    if not rows:
        click.echo("No alias of yours. Make one: opencode-monitor pricing alias MODEL TARGET")
