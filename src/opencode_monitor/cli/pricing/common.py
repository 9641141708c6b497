"""What the commands on prices share."""

from __future__ import annotations

from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from opencode_monitor.cli.context import now
from opencode_monitor.cli.output import View, print_view
from opencode_monitor.cli.render import UNKNOWN, console, count_of, plain
from opencode_monitor.cli.statusline import renew_sums
from opencode_monitor.errors import PriceUsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

    from opencode_monitor.cli.context import State
    from opencode_monitor.pricing.catalog import PricePeriod
    from opencode_monitor.repositories import Usage

PRICES = ("input", "output", "reasoning", "cache_read", "cache_write_5m", "cache_write_1h")
PRICE_TITLES = ("Input", "Output", "Reasoning", "Cache read", "Write 5m", "Write 1h")
MODE_NAMES = ("standard", "batch", "priority", "flex", "fast")


def split_model(model: str) -> tuple[str, str]:
    """Split "vendor/model".

    Raises:
        PriceUsageError: There is no vendor, or no model.
    """
    vendor, slash, name = model.partition("/")
    if not slash or not vendor or not name:
        raise PriceUsageError(f"{model!r} has no vendor. Write vendor/model as OpenCode does, such as deepseek/deepseek-chat.")
    return vendor, name


@contextmanager
def price_book(state: State) -> Iterator[Session]:
    """Open the database to write into the book, made and seeded where it is not there; one transaction."""
    from opencode_monitor.cli.importing import writing_sessions  # noqa: PLC0415 - heavy imports stay inside commands
    from opencode_monitor.pricing.book import seed_price_book  # noqa: PLC0415 - as above

    with writing_sessions(state).begin() as session:
        seed_price_book(session.connection(), now=now())
        yield session
    renew_sums(state)


def say_priced(calls: int) -> str:
    """Say how many calls have got a price."""
    return count_of(calls, "call without a price has one now.", "calls without a price have one now.")


def show_cost(usage: Usage) -> str:
    """Show a total with all that its last digits say."""
    return f"{show_exact(usage.cost_usd)} ({count_of(usage.unpriced_calls, 'call')} unpriced)"


def show_exact(cost: Decimal | None) -> str:
    """Show USD with six digits."""
    return UNKNOWN if cost is None else f"${cost.quantize(Decimal('0.000001')):,f}"


def show_price(value: Decimal | None) -> str:
    """Show a price per million tokens as it was stated."""
    return UNKNOWN if value is None else format(value.normalize() if value else Decimal(0), "f")


def price_columns(row: PricePeriod) -> list[str]:
    """Return the prices of a row as a table shows them."""
    return [show_price(getattr(row, f"{price}_usd_per_mtok")) for price in PRICES]


def show_start(row: PricePeriod) -> str:
    """Show since when a row holds: the day, the time where it is not midnight UTC, and the daily hours where it has some (UTC)."""
    since = row.effective_from
    start = f"{since:%Y-%m-%d}" if since.hour == since.minute == 0 else f"{since:%Y-%m-%d %H:%M}"
    if row.daily_from_minute is None or row.daily_to_minute is None:
        return start
    hours = "-".join(f"{minute // 60:02d}:{minute % 60:02d}" for minute in (row.daily_from_minute, row.daily_to_minute))
    return f"{start}, {hours}"


def print_prices(first: Sequence[tuple[str, str]], rows: Sequence[tuple[Sequence[str], PricePeriod, str]]) -> None:
    """Print a table of prices.

    Args:
        first: Titles and alignments of the columns before the prices; the first of them can be folded.
        rows: For each row the cells of the first columns, the row of the book, and what stands for its status.
    """
    titles = [*first, ("From", "left"), ("Over", "right"), *((title, "right") for title in PRICE_TITLES), ("Source", "left")]
    cells = [
        [
            *before,
            show_start(row),
            f"{row.min_context_tokens:,}",
            *price_columns(row),
            plain(row.source) + (f", {status}" if status else ""),
        ]
        for before, row, status in rows
    ]
    print_rows(titles, cells)


def print_rows(titles: Sequence[tuple[str, str]], cells: Sequence[Sequence[str]]) -> None:
    """Print a table as wide as it must be: an amount is never cut off, and a name in the first column is broken at most.

    Args:
        titles: Title and alignment of each column.
        cells: The rows.
    """
    columns = [titles[0], *((title, "whole" if justify == "left" else justify) for title, justify in titles[1:])]
    print_view(console(), View(columns, cells, is_folded=True))


def as_objects(rows: Sequence[PricePeriod]) -> list[dict[str, Any]]:
    """Return rows of the book as JSON has them."""
    from opencode_monitor.pricing.exchange import COLUMNS  # noqa: PLC0415 - heavy imports stay inside commands

    return [{name: getattr(row, name) for name in COLUMNS} for row in rows]
