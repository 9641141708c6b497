"""Prices as files: pricing import, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.context import State, json_option, now
from opencode_monitor.cli.pricing.common import price_book, say_priced
from opencode_monitor.cli.render import count_of, envelope, note, plain
from opencode_monitor.errors import PriceError, UsageError

if TYPE_CHECKING:
    from opencode_monitor.pricing.exchange import BadRow, Format


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Rows take the place of your prices that begin at the same time.")
@json_option
@click.pass_obj
def import_prices(state: State, file: Path, replace: bool, as_json: bool) -> None:
    """Read prices from FILE, .csv or .json: all of its rows, or none if one is bad.

    A row with a price_id is put back as it was exported; a row without one is a price of yours, as by pricing set.
    """
    from opencode_monitor.ingest.settle import backfill  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.pricing.book import import_rows  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.exchange import read_prices  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import CostRepository  # noqa: PLC0415 - as above

    file_format = _format_of(file)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PriceError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    rows, bad = read_prices(text, file_format, tz=state.zone)
    moment = now()
    with price_book(state) as session:
        connection = session.connection()
        before = CostRepository(session).total()
        added, refused = import_rows(connection, rows, now=moment, replacing=replace)
        if bad or refused:
            raise _refusal(file, [*bad, *refused], as_json=as_json)
        backfill(connection, now=moment)
        after = CostRepository(session).total()
    priced = before.unpriced_calls - after.unpriced_calls
    if as_json:
        totals = {"rows": len(rows), "added": added, "calls_priced": priced}
        click.echo(envelope("pricing-import", rows=[], totals=totals))
    else:
        click.echo(f"Read {count_of(len(rows), 'price')}: {added:,} new. {say_priced(priced)}")


@click.command()
@click.option(
    "-o", "--output", "file", type=click.Path(path_type=Path), metavar="FILE", help="A file, .csv or .json; default: CSV, printed."
)
@click.option("--provider", metavar="ID", help="Only of this provider.")
@click.option("--model", metavar="GLOB", help="Only of models like this.")
@click.option("--source", metavar="NAME", help="Only from this source, such as user.")
@json_option
@click.pass_obj
def export(state: State, file: Path | None, provider: str | None, model: str | None, source: str | None, as_json: bool) -> None:
    """Write the price book, every row that it ever had, as CSV or JSON."""
    from opencode_monitor.pricing.exchange import write_prices  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import PricingRepository  # noqa: PLC0415 - as above

    file_format: Format = _format_of(file) if file is not None else "json" if as_json else "csv"
    with state.sessions()() as session:
        periods = PricingRepository(session).find(provider=provider, model=model, source=source)
    text = write_prices(periods, file_format)
    if file is None:
        if sys.stdout.isatty():
            # What would steer a terminal is replaced there, and there alone.
            text = "".join(plain(line) + "\n" for line in text.split("\n")[:-1])
        # In "color", a program gets every character as it is; click takes what looks like a colour out otherwise.
        click.echo(text, nl=False, color=True)
    else:
        file.write_text(text, encoding="utf-8", newline="")
        note(f"Wrote {len(periods):,} prices to {file}.", quiet=state.quiet)


def _format_of(file: Path) -> Format:
    match file.suffix.lower():
        case ".csv":
            return "csv"
        case ".json":
            return "json"
        case _:
            raise UsageError(f"{file}: the name must end in .csv or .json.")


def _refusal(file: Path, bad: list[BadRow], *, as_json: bool) -> PriceError:
    """List all that is bad, and make the error that ends the command."""
    lines = [f"{file}, {row.place}: {row.reason}" for row in bad]
    if as_json:
        return PriceError(f"nothing was imported. {'; '.join(lines)}")
    for line in lines:
        click.echo(plain(line), err=True)
    return PriceError(f"{file}: {len(bad):,} bad {'row' if len(bad) == 1 else 'rows'}; nothing was imported.")
