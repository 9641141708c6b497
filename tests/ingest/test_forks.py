"""Copies made by a fork, on real databases."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from opencode_monitor.ingest.settle import settle_sessions
from opencode_monitor.models import Message, SessionResourceMetrics
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.testing.builders import NOON, add_call, add_session

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

COST = Decimal("0.0045")  # of the call that `add_call` makes


def settle(session: Session, *session_ids: str) -> None:
    seed_price_book(session.connection(), now=NOON)
    settle_sessions(session.connection(), session_ids, now=NOON)
    session.expire_all()


def costs(session: Session, *message_ids: str) -> list[tuple[str | None, Decimal | None]]:
    return [(row.copied_from, row.message_cost_usd) for row in (session.get_one(Message, message_id) for message_id in message_ids)]


def test_mark_copies_fork_of_a_fork_counts_once(session: Session) -> None:
    for number in range(3):
        add_session(session, f"ses_{number}", created_at=NOON + timedelta(hours=number))
        add_call(session, f"msg_{number}", f"ses_{number}")
    settle(session, "ses_0", "ses_1", "ses_2")
    assert costs(session, "msg_0", "msg_1", "msg_2") == [(None, COST), ("msg_0", Decimal(0)), ("msg_0", Decimal(0))]


def test_mark_copies_original_that_arrives_late_takes_the_cost_over(session: Session) -> None:
    add_session(session, "fork", created_at=NOON + timedelta(hours=1))
    add_call(session, "msg_copy", "fork")
    settle(session, "fork")
    alone = costs(session, "msg_copy")
    add_session(session, "original")
    add_call(session, "msg_original", "original")
    settle(session, "original")
    assert alone == [(None, COST)]
    assert costs(session, "msg_copy", "msg_original") == [("msg_original", Decimal(0)), (None, COST)]
    assert session.get_one(SessionResourceMetrics, "fork").total_cost_usd == Decimal(0)


def test_mark_copies_same_call_at_the_same_time_in_sessions_of_their_own_is_no_copy(session: Session) -> None:
    for number in range(2):
        add_session(session, f"ses_{number}", created_at=NOON)
        add_call(session, f"msg_{number}", f"ses_{number}")
    settle(session, "ses_0", "ses_1")
    assert costs(session, "msg_0", "msg_1") == [(None, COST), (None, COST)]


def test_mark_copies_other_tokens_are_another_call(session: Session) -> None:
    add_session(session, "ses_0")
    add_call(session, "msg_0", "ses_0")
    add_session(session, "ses_1", created_at=NOON + timedelta(hours=1))
    add_call(session, "msg_1", "ses_1", steps=((1001, 0, 0, 100, 0),))
    settle(session, "ses_0", "ses_1")
    assert [copied_from for copied_from, _ in costs(session, "msg_0", "msg_1")] == [None, None]


def test_mark_copies_nothing_written_after_the_fork_is_a_copy(session: Session) -> None:
    add_session(session, "ses_0")
    add_call(session, "msg_0", "ses_0")
    add_session(session, "ses_1", created_at=NOON + timedelta(hours=1))
    add_call(session, "msg_1", "ses_1")
    add_call(session, "msg_2", "ses_1", created_at=NOON + timedelta(hours=2))
    settle(session, "ses_0", "ses_1")
    assert costs(session, "msg_1", "msg_2") == [("msg_0", Decimal(0)), (None, COST)]
