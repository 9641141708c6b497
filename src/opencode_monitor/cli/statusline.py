"""One line for a prompt or a status bar, from a small file that the last import left: no database is opened."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
import platformdirs

from opencode_monitor.cli.context import cost_option, now, system_zone
from opencode_monitor.cli.ranges import parse_zone
from opencode_monitor.cli.render import as_json_value, note, show_usd
from opencode_monitor.errors import SourceError, UsageError

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy.orm import Session, sessionmaker

    from opencode_monitor.cli.context import State

_VERSION = 1
_DAYS = 62
"""How far back the file goes: two whole months at least, so that one left in the last month still has the sums of this one's days."""


@click.command()
@cost_option
@click.pass_obj
def statusline(state: State, cost: str | None) -> None:
    """Show one line: what today and this month cost so far, by what the last import left; opens no database and no network."""
    kept = _read(state)
    number = cost or os.environ.get("OPENCODE_MONITOR_COST") or "list"
    if number not in kept["unknown"]:
        raise UsageError(f"$OPENCODE_MONITOR_COST is {number!r}.", hint=f"Use {', '.join(kept['unknown'])}.")
    zone, moment = ZoneInfo(kept["tz"]), now()
    line = _line(kept, number, moment.astimezone(zone).date(), zone)
    # Its days are those of the last import, which may have run elsewhere: a timer's are often days of UTC.
    is_other = moment.astimezone(zone).utcoffset() != moment.astimezone(_own_zone(state)).utcoffset()
    click.echo(f"{line} ({zone.key})" if is_other else line)


def _own_zone(state: State) -> ZoneInfo:
    """Return the zone that every other report would take; without the settings, which take too long to load."""
    name = state.tz or os.environ.get("OPENCODE_MONITOR_TZ")
    return parse_zone(name) if name else system_zone()


def renew_sums(state: State) -> None:
    """Leave the sums anew where prices have changed; they are as of the last import still. See `leave_sums`."""
    try:
        imported_at = datetime.fromisoformat(_read(state)["imported_at"])
    except SourceError:
        return  # nothing was imported yet
    leave_sums(state, state.sessions(), imported_at=imported_at)


def leave_sums(state: State, sessions: sessionmaker[Session], *, imported_at: datetime | None = None) -> None:
    """Leave the sums of the last days for `statusline`, which has no time to open a database.

    Args:
        state: Says which database, and in which zone its days are.
        sessions: Open it.
        imported_at: Up to when they are known; now, where an import has just ended.
    """
    from opencode_monitor.repositories import CostNumber, CostRepository, Interval, TimeRange  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    moment = now()
    recent = TimeRange(start=moment - timedelta(days=_DAYS))
    with sessions() as session:
        days = [day for day in CostRepository(session).by_period(Interval.DAY, tz=state.zone.key, time_range=recent) if day.period]
    kept = {
        "version": _VERSION,
        "imported_at": (imported_at or moment).isoformat(),
        "tz": state.zone.key,
        "days": {str(day.period): {number.value: as_json_value(getattr(day, number.field)) for number in CostNumber} for day in days},
        "unknown": {number.value: {str(day.period): getattr(day, number.unknown_field) for day in days} for number in CostNumber},
    }
    file = _file(state)
    partial = file.with_suffix(f".{os.getpid()}.partial")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.write_text(json.dumps(kept), encoding="utf-8")
        partial.replace(file)
    except OSError as error:
        # The import is done; a status line is not worth its failing.
        note(f"no sums were left for statusline: {error.strerror} ({file.parent})", quiet=state.quiet)


def _file(state: State) -> Path:
    """Name the file of a database; two ways of naming one database, such as an option and a variable, are taken to be the same path."""
    database = state.database or os.environ.get("OPENCODE_MONITOR_DATABASE_URL") or os.environ.get("OPENCODE_MONITOR_DB") or ""
    database = database.removeprefix("duckdb:///")
    if database and "://" not in database:
        database = str(Path(database).expanduser().absolute())
    key = hashlib.sha256(database.encode()).hexdigest()[:16]
    return platformdirs.user_cache_path("opencode-monitor") / f"statusline-{key}.json"


def _read(state: State) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(_file(state).read_bytes())
    except (FileNotFoundError, ValueError):
        kept = {}
    if kept.get("version") != _VERSION:
        raise SourceError("nothing was imported yet that a status line could show.", hint="Run: opencode-monitor import")
    return kept


def _line(kept: dict[str, Any], number: str, today: date, zone: ZoneInfo) -> str:
    """Write the line.

    Args:
        kept: What the import left.
        number: Which of the three costs.
        today: Today, in the zone of the sums.
        zone: That zone.
    """
    days = {day: costs[number] for day, costs in kept["days"].items()}
    of_month = [day for day in days if day.startswith(f"{today:%Y-%m}")]
    unknown = kept["unknown"][number]
    imported_at = datetime.fromisoformat(kept["imported_at"]).astimezone(zone)
    # What came after the import is not known: no sum that reaches past it is 0, or whole.
    is_open = imported_at.date() < today
    shown = [
        (_sum(days, unknown, [str(today)], is_open=is_open), "today"),
        (_sum(days, unknown, of_month, is_open=is_open), f"in {today:%B}"),
    ]
    at = f"{imported_at:%H:%M}" if imported_at.date() == today else f"{imported_at:%Y-%m-%d}"
    missing = sum(unknown.get(day, 0) for day in of_month)
    words = [f"{amount} {period}" for amount, period in shown]
    if missing:
        words.append(f"{missing:,} {'call' if missing == 1 else 'calls'} of unknown cost")
    return " · ".join([*words, f"as of {at}"])


def _sum(days: dict[str, str | None], unknown: dict[str, int], chosen: list[str], *, is_open: bool) -> str:
    known = [Decimal(cost) for day in chosen if (cost := days.get(day)) is not None]
    is_least = is_open or any(unknown.get(day, 0) for day in chosen)
    if is_least and not known:
        return show_usd(None)
    return f"{'≥ ' if is_least else ''}{show_usd(sum(known, Decimal(0)))}"
