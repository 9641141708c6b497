"""What follows every change of rows: recognise copies, price, aggregate, estimate what was not recorded.

The same code serves a batch, a backfill and a re-pricing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from opencode_monitor.db.bulk import staged
from opencode_monitor.ingest.forks import mark_copies
from opencode_monitor.ingest.unrecorded import complete_estimates, estimate_sessions
from opencode_monitor.metrics.aggregate import aggregate_sessions
from opencode_monitor.metrics.carried import forget_carried
from opencode_monitor.models import Session, SessionResourceMetrics
from opencode_monitor.pricing.book import resolve_aliases, seed_price_book
from opencode_monitor.pricing.cost import price_calls, priceable_sessions, sum_messages
from opencode_monitor.pricing.current import refresh_model_pricing
from opencode_monitor.pricing.paid import charge_calls

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

_SESSION_ID = (sa.Column("session_id", sa.Text()),)


def settle_sessions(connection: sa.Connection, session_ids: Iterable[str], *, now: datetime) -> None:
    """Bring copies, costs, aggregates and estimates up to date after the rows of some sessions changed.

    Args:
        connection: In the transaction that changed the rows.
        session_ids: The sessions; others that share a forked call with them are brought up to date with them.
        now: What `updated_at` of the aggregates says.
    """
    changed = set(session_ids)
    if not changed:
        return
    resolve_aliases(connection)
    with staged(connection, "changed_sessions", _SESSION_ID, [(session_id,) for session_id in changed]) as scope:
        affected = changed | mark_copies(connection, scope)
    with staged(connection, "affected_sessions", _SESSION_ID, [(session_id,) for session_id in affected]) as scope:
        price_calls(connection, scope)
        forget_carried(connection, scope)
        aggregate_sessions(connection, scope, now=now)
        estimate_sessions(connection, scope, now=now)


def restore_copies(connection: sa.Connection, *, now: datetime) -> None:
    """Mark the copies of forks once more, where an import was killed.

    Seen with DuckDB 2.0.1: when it replays the log of a process that was killed, some updates of `copied_from` do not come back, though
    everything else does. The calls of a fork would then be paid twice as soon as anything priced them again.

    Args:
        connection: In a transaction of the caller's.
        now: What `updated_at` of the aggregates says.
    """
    every = sa.select(Session.session_id).subquery("every_session")
    settle_sessions(connection, mark_copies(connection, every), now=now)


def backfill(connection: sa.Connection, *, now: datetime) -> None:
    """Settle what is still open: sessions without aggregates, calls without a price whose model has one by now, and estimates.

    The plan's table of current prices follows the time on the way, as announced prices begin and limited ones end.

    Args:
        connection: In a transaction of the caller's.
        now: What `updated_at` of the aggregates says.
    """
    refresh_model_pricing(connection, now=now)
    resolve_aliases(connection)
    without_metrics = sa.select(Session.session_id).where(Session.session_id.not_in(sa.select(SessionResourceMetrics.session_id)))
    open_sessions = {*connection.scalars(without_metrics).all(), *priceable_sessions(connection)}
    settle_sessions(connection, open_sessions, now=now)
    complete_estimates(connection, now=now)


def settle_database(connection: sa.Connection, *, now: datetime) -> None:
    """Bring a database that reached head to what the program expects: the packaged prices, and everything priced and aggregated.

    Args:
        connection: In a transaction of the caller's.
        now: The time that prices and aggregates are brought up to.
    """
    seed_price_book(connection, now=now)
    backfill(connection, now=now)


def recharge(connection: sa.Connection, *, now: datetime) -> None:
    """Bring what is paid up to date after the user's statements changed; list prices, and the costs that follow from them, stay.

    Args:
        connection: In a transaction of the caller's.
        now: What `updated_at` of the aggregates says.
    """
    charge_calls(connection)
    sum_messages(connection)
    aggregate_sessions(connection, None, now=now)
