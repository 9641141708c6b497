"""Each estimate agrees with its recomputation, and what was changed by hand is found."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from opencode_monitor.integrity import estimate_check
from opencode_monitor.integrity.cost_check import CostCheck
from opencode_monitor.integrity.estimate_check import check_estimates
from opencode_monitor.integrity.recompute import read_book
from opencode_monitor.models import UnrecordedCall
from opencode_monitor.pricing.book import seed_price_book
from opencode_monitor.pricing.lookup import find_cells
from opencode_monitor.testing.builders import NOON

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

HAIKU = "anthropic/claude-haiku-4-5"


@pytest.fixture
def estimated(session: Session) -> Session:
    """Two estimates with a price, and one without."""
    connection = session.connection()
    seed_price_book(connection, now=NOON)
    price_id = find_cells(HAIKU, at=NOON, connection=connection)[-1].price_id
    for name, price, cost in (("first", price_id, Decimal("0.000839")), ("second", price_id, Decimal("0.000839")), ("third", None, None)):
        session.add(
            UnrecordedCall(
                unrecorded_id=name,
                session_id="ses_1",
                kind="title",
                model_id=HAIKU,
                created_at=NOON,
                input_tokens=1,
                cache_read_tokens=130,
                cache_write_tokens=660,
                output_tokens=0,
                reasoning_tokens=0,
                estimated_cost_usd=cost,
                price_id=price,
                method="title_prompt",
                method_version=1,
            )
        )
    session.commit()
    return session


def check(session: Session) -> CostCheck:
    found = CostCheck()
    check_estimates(session.connection(), read_book(session.connection()), found)
    return found


def test_check_estimates_sound_rows_agree_page_by_page(estimated: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate_check, "_ROWS_AT_ONCE", 2)

    found = check(estimated)

    assert (found.found, found.differences) == (0, [])
    assert dict(found.rows) == {"unrecorded_calls": 3}


@pytest.mark.parametrize(
    ("damage", "details"),
    [
        ("estimated_cost_usd = 999", [("first", "estimated cost is 999.000000000000, should be 0.000839000000")]),
        ("estimated_cost_usd = NULL", [("first", "estimated cost is unknown, should be 0.000839000000")]),
        ("output_tokens = 1", [("first", "estimated cost is 0.000839000000, should be 0.000844000000")]),
        ("price_id = 'none'", [("first", "price row is none, should be unknown; estimated cost is 0.000839000000, should be unknown")]),
    ],
)
def test_check_estimates_finds_what_was_changed_by_hand(estimated: Session, damage: str, details: list[tuple[str, str]]) -> None:
    estimated.execute(sa.text(f"UPDATE unrecorded_calls SET {damage} WHERE unrecorded_id = 'first'"))

    found = check(estimated)

    assert [(one.key, one.detail) for one in found.differences] == details


def test_check_estimates_cost_without_a_price_row_is_found(estimated: Session) -> None:
    estimated.execute(sa.text("UPDATE unrecorded_calls SET estimated_cost_usd = 999 WHERE unrecorded_id = 'third'"))

    found = check(estimated)

    assert (found.found, [one.key for one in found.differences]) == (1, ["third"])
