"""How the price book grows: what is stored never changes in what it charges, so another price is another row.

Pure: rows in, rows out. The book itself is in `book`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from opencode_monitor.pricing.catalog import BEGIN, PricePeriod, Status, current_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class BookChange:
    """What stating some prices does to the book.

    Attributes:
        added: New rows, with ids of their own, each with the row that it takes the place of, if there is one.
        confirmed: Rows that were announced and hold by now, with their new status.
    """

    added: list[tuple[PricePeriod, PricePeriod | None]] = field(default_factory=list)
    confirmed: list[tuple[str, Status]] = field(default_factory=list)

    @property
    def rows(self) -> list[PricePeriod]:
        """The new rows."""
        return [row for row, _ in self.added]


def plan_change(stored: Iterable[PricePeriod], stated: Sequence[PricePeriod], *, now: datetime, whole: bool = False) -> BookChange:
    """Work out which rows stating some prices adds to the book.

    Args:
        stored: All rows that the book has of the models stated.
        stated: Prices as their source states them now.
        now: When the book gets them.
        whole: The source states all tiers and windows of each model, mode and start. One that it had before and does not
            state any more is recorded as costing what the base price is: above 200,000 tokens, say, nothing else holds now.
    """
    known = list(stored)
    editions = Counter(row.place for row in known)
    latest = {row.place: row for row in current_rows(known)}
    wanted = {row.place: row for row in stated}
    if whole:
        wanted.update(_withdrawn(latest.values(), wanted))
    change = BookChange()
    for place, row in wanted.items():
        before = latest.get(place)
        if before is None:
            change.added.append((replace(row, recorded_at=now), None))
        elif before.charge != row.charge:
            recorded = now if before.recorded_at is None else max(now, before.recorded_at + _TICK)
            price_id = f"{row.price_id}#{editions[place] + 1:02d}"
            change.added.append((replace(row, price_id=price_id, recorded_at=recorded), before))
        elif before.status == "provisional" and row.status != "provisional":
            change.confirmed.append((before.price_id, row.status))
    return change


def _withdrawn(
    latest: Iterable[PricePeriod], wanted: dict[tuple[str, str, str, int, datetime, int | None, str], PricePeriod]
) -> dict[tuple[str, str, str, int, datetime, int | None, str], PricePeriod]:
    bases = {_set_of(row): row for row in wanted.values() if row.min_context_tokens == 0 and row.daily_from_minute is None}
    withdrawn = {}
    for row in latest:
        base = bases.get(_set_of(row))
        if base is None or row.place in wanted:
            continue
        withdrawn[row.place] = replace(
            base,
            price_id=row.price_id.partition("#")[0],
            min_context_tokens=row.min_context_tokens,
            daily_from_minute=row.daily_from_minute,
            daily_to_minute=row.daily_to_minute,
        )
    return withdrawn


def _set_of(row: PricePeriod) -> tuple[str, str, str, datetime, str]:
    return (row.vendor, row.model, row.mode, row.effective_from, row.source)


def find_conflicts(stored: Iterable[PricePeriod], stated: Iterable[PricePeriod], *, replacing: bool) -> list[tuple[PricePeriod, str]]:
    """Find the prices of the user's that contradict others of the user's.

    A price without an end holds until the next one begins, so two of them contradict each other only where they begin
    at the same time. A price with an end says that nothing else holds until then.

    Args:
        stored: The user's rows.
        stated: The rows to add; those before one in this order are there when it comes.
        replacing: Rows may take the place of those that begin at the same time.

    Returns:
        The rows that cannot be added, each with the reason.
    """
    by_tier: defaultdict[tuple[str, str, str, int], list[PricePeriod]] = defaultdict(list)
    for row in current_rows(row for row in stored if row.source == "user"):
        by_tier[row.vendor, row.model, row.mode, row.min_context_tokens].append(row)
    conflicts = []
    for row in stated:
        others = by_tier[row.vendor, row.model, row.mode, row.min_context_tokens]
        reason = next((reason for other in others if (reason := _conflict(row, other, replacing=replacing))), None)
        if reason is None:
            others[:] = [*(other for other in others if other.place != row.place), row]
        else:
            conflicts.append((row, reason))
    return conflicts


def _conflict(row: PricePeriod, other: PricePeriod, *, replacing: bool) -> str | None:
    model = f"{row.vendor}/{row.model}"
    if other.effective_from == row.effective_from:
        if replacing or other.charge == row.charge:
            return None
        return f"{model}: you have a price from {_start(row)} on already. Put this one in its place with --replace."
    ended = next((one for one, two in ((other, row), (row, other)) if _ends_after_start(one, two)), None)
    if ended is None:
        return None
    return (
        f"{model}: the price from {_start(row)} on overlaps with yours from {_start(other)} on,"
        f" as the one from {_start(ended)} on holds until {ended.effective_to:%Y-%m-%d %H:%M} UTC"
    )


def _ends_after_start(ended: PricePeriod, other: PricePeriod) -> bool:
    return ended.effective_to is not None and ended.effective_from < other.effective_from < ended.effective_to


def _start(row: PricePeriod) -> str:
    return "the beginning" if row.effective_from == BEGIN else f"{row.effective_from:%Y-%m-%d %H:%M} UTC"
