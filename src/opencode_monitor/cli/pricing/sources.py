"""Where prices come from: pricing diff, refresh."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import State, json_option, now
from opencode_monitor.cli.pricing.common import PRICES, price_book, print_rows, say_priced, show_exact, show_price, show_start
from opencode_monitor.cli.render import count_of, envelope, note, plain

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from opencode_monitor.pricing.catalog import PricePeriod
    from opencode_monitor.repositories import ReportedDifference


@click.command()
@json_option
@click.pass_obj
def diff(state: State, as_json: bool) -> None:
    """Show what reading the packaged prices and OpenCode's price list would change, and where OpenCode's costs differ from ours."""
    from opencode_monitor.repositories import PricingRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.sessions()() as session:
        changes, problems = _planned(session)
        differences = PricingRepository(session).differences()
    if as_json:
        rows = [
            *({"kind": "price", **_price_change(row, before)} for row, before in changes),
            *({"kind": "reported", **_as_row(difference)} for difference in differences),
        ]
        click.echo(envelope("pricing-diff", rows=rows, warnings=problems))
        return
    for row, before in changes:
        click.echo(_change_line(row, before))
    for problem in problems:
        click.echo(plain(problem))
    click.echo(f"{len(changes):,} prices would be added: opencode-monitor pricing refresh" if changes else "The book is up to date.")
    if not differences:
        click.echo("OpenCode's stored costs are ours, wherever both are known.")
        return
    click.echo("\nWhere OpenCode's stored cost is not ours:")
    titles = (("Model", "left"), ("Calls", "right"), ("Reported", "right"), ("List", "right"), ("Difference", "right"))
    cells = [
        [
            plain(one.model),
            f"{one.calls:,}",
            show_exact(one.reported_cost_usd),
            show_exact(one.list_cost_usd),
            show_exact(one.reported_cost_usd - one.list_cost_usd),
        ]
        for one in differences
    ]
    print_rows(titles, cells)


@click.command()
@click.option("--offline", is_flag=True, help="Say nothing of the network: nothing is ever fetched.")
@json_option
@click.pass_obj
def refresh(state: State, offline: bool, as_json: bool) -> None:
    """Read the packaged prices and OpenCode's own price list again, and price what had no price.

    Nothing is fetched: prices come with the genai-prices package, and OpenCode keeps its list in its cache directory.
    """
    from opencode_monitor.ingest.settle import backfill  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.pricing.book import read_opencode_cache, seed_price_book  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.opencode_cache import find_cache  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import CostRepository, PricingRepository  # noqa: PLC0415 - as above

    if not offline:
        note("Nothing is fetched. For newer prices install a newer genai-prices; OpenCode renews its own list.", quiet=state.quiet)
    moment = now()
    cache = find_cache(os.environ)
    with price_book(state) as session:
        connection = session.connection()
        before = CostRepository(session).total()
        added = seed_price_book(connection, now=moment, again=True)
        reading = None if cache is None else read_opencode_cache(connection, cache, now=moment)
        if reading is not None:
            added = [*added, *reading.added]
        backfill(connection, now=moment)
        after = CostRepository(session).total()
        sources = [
            {"source": row.source, "version": row.version, "stated_at": row.stated_at, "read_at": row.read_at}
            for row in PricingRepository(session).sources()
        ]
    problems = [] if reading is None else [f"{record}: {reason}" for record, reason in reading.problems]
    priced = before.unpriced_calls - after.unpriced_calls
    if as_json:
        totals = {"added": len(added), "calls_priced": priced}
        click.echo(envelope("pricing-refresh", rows=sources, totals=totals, warnings=problems))
        return
    for source in sources:
        click.echo(f"{plain(str(source['source'])):15} {plain(str(source['version']))}")
    if cache is None:
        click.echo("opencode-cache  no models.json here")
    for problem in problems:
        click.echo(plain(problem))
    click.echo(f"{count_of(len(added), 'new price')}. {say_priced(priced)}")


def _planned(session: Session) -> tuple[list[tuple[PricePeriod, PricePeriod | None]], list[str]]:
    """Work out what a refresh would add."""
    from opencode_monitor.models import PricePeriodRow  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.pricing.book import is_older_than_read, plan_additions, stored_periods  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.opencode_cache import cache_periods, find_cache, read_cache  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.seeds import seed_periods  # noqa: PLC0415 - as above

    connection = session.connection()
    moment = now()
    changes = plan_additions(connection, seed_periods(moment.date()), now=moment, whole=True).added
    path = find_cache(os.environ)
    cached = None if path is None else read_cache(path, now=moment)
    if cached is None or is_older_than_read(connection, cached):
        return changes, []
    rows = cache_periods(cached, stored_periods(connection, PricePeriodRow.source == "opencode-cache"))
    of_cache = plan_additions(connection, rows, now=moment, whole=True).added
    return [*changes, *of_cache], [f"{record}: {reason}" for record, reason in cached.problems]


def _change_line(row: PricePeriod, before: PricePeriod | None) -> str:
    changed = []
    for price in PRICES:
        new = getattr(row, f"{price}_usd_per_mtok")
        old = None if before is None else getattr(before, f"{price}_usd_per_mtok")
        if new != old:
            changed.append(f"{price} {show_price(new)}" if before is None else f"{price} {show_price(old)} → {show_price(new)}")
    tier = f" over {row.min_context_tokens:,}" if row.min_context_tokens else ""
    mode = "" if row.mode == "standard" else f" {row.mode}"
    return plain(f"{row.vendor}/{row.model}{mode}{tier} from {show_start(row)} ({row.source}): {', '.join(changed)}")


def _price_change(row: PricePeriod, before: PricePeriod | None) -> dict[str, Any]:
    prices: dict[str, Any] = {}
    for price in PRICES:
        name = f"{price}_usd_per_mtok"
        prices[name] = getattr(row, name)
        prices[f"old_{name}"] = None if before is None else getattr(before, name)
    return {
        "model": f"{row.vendor}/{row.model}",
        "mode": row.mode,
        "min_context_tokens": row.min_context_tokens,
        "effective_from": row.effective_from,
        "source": row.source,
        "replaces": None if before is None else before.price_id,
        **prices,
    }


def _as_row(difference: ReportedDifference) -> dict[str, Any]:
    return {
        "model": difference.model,
        "calls": difference.calls,
        "reported_cost_usd": difference.reported_cost_usd,
        "list_cost_usd": difference.list_cost_usd,
        "difference_usd": difference.reported_cost_usd - difference.list_cost_usd,
    }
