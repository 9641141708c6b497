"""Builders of spend for the judgements: plain functions; what a test does not name does not matter to it."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from opencode_monitor.reports.spend import Spend

MONDAY = date(2026, 6, 1)
"""The tested day: a Monday, so that the 56 days before it are eight whole weeks."""


def spend(
    day: date,
    usd: object,
    *,
    project: str = "shop",
    model: str = "vendor/large",
    agent: str = "build",
    session: str | None = None,
    unknown_calls: int = 0,
) -> Spend:
    """Make the spend of one session on one day; a day has a session of its own where none is named."""
    return Spend(
        day=day,
        project=project,
        model=model,
        agent=agent,
        session=session or f"ses_{day}",
        usd=None if usd is None else Decimal(str(usd)),
        unknown_calls=unknown_calls,
    )


def eight_weeks(usd: object = 10, *, end: date = MONDAY, project: str = "shop", model: str = "vendor/large") -> list[Spend]:
    """Make 56 days that each cost the same."""
    return [spend(end - timedelta(days=number), usd, project=project, model=model) for number in range(56, 0, -1)]
