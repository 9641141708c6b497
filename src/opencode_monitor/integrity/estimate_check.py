"""Every estimate against its recomputation: its tokens at the prices of the row that it was priced with."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from opencode_monitor.integrity.recompute import Tokens, bucket_costs
from opencode_monitor.models import UnrecordedCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opencode_monitor.integrity.cost_check import CostCheck
    from opencode_monitor.integrity.recompute import Book

_ROWS_AT_ONCE = 50_000
_NOTHING = Decimal(0)


def check_estimates(connection: sa.Connection, book: Book, check: CostCheck) -> None:
    """Recompute the cost of every call that OpenCode did not record, and compare it with what is stored.

    Args:
        connection: A database at head; nothing is written.
        book: The prices.
        check: Takes what differs.
    """
    for call in _calls(connection):
        tokens = Tokens(call.input_tokens, call.cache_read_tokens, call.cache_write_tokens, call.output_tokens, call.reasoning_tokens)
        row = None if call.price_id is None else book.by_id.get(call.price_id)
        costs = None if row is None else bucket_costs(row, tokens)
        check.compare(
            "unrecorded_calls",
            call.unrecorded_id,
            (
                ("price row", call.price_id, None if row is None else row.price_id),
                ("estimated cost", call.estimated_cost_usd, None if costs is None else sum(costs.values(), _NOTHING)),
            ),
        )


def _calls(connection: sa.Connection) -> Iterator[sa.Row[Any]]:
    page = sa.select(*sa.inspect(UnrecordedCall).columns).order_by(UnrecordedCall.unrecorded_id).limit(_ROWS_AT_ONCE)
    rows = connection.execute(page).all()
    while rows:
        yield from rows
        rows = connection.execute(page.where(UnrecordedCall.unrecorded_id > rows[-1].unrecorded_id)).all()
