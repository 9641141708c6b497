"""How a report over usage looks as a table."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from opencode_monitor.cli.output import View
from opencode_monitor.cli.render import console, end_of, plain, show_change, show_tokens, show_usd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date, tzinfo
    from pathlib import Path

    from opencode_monitor.cli.options import Output
    from opencode_monitor.metrics.dimensions import WeekStart
    from opencode_monitor.reports.usage import Answer, Question
    from opencode_monitor.repositories import CostNumber, Rows

NO_VALUE = {"tool": "(no tool)", "server": "(no MCP server)", "skill": "(no skill)", "file": "(no file)", "part-type": "(no part)"}
"""What stands for the rest, which is none's."""

ID_CHARS = 16
"""How much of an id a table shows: `ses_` and its time, enough for `session` to find it."""

_NAME_CHARS = 48
_LEAST_NAME_CHARS = 16
_GAP = 3  # between columns
CURRENT = {"day": "today", "week": "this week", "month": "this month"}
"""How the period of now is called."""

_PATHS = ("project", "file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the table: how it shows a row, and the totals."""

    title: str
    cell: Callable[[Any], str]
    total: Callable[[Any], str] = lambda _: ""
    justify: str = "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """A report as it was asked for.

    Attributes:
        schema: Its name.
        dimensions: What its rows are told apart by.
        cost: The value of `--cost`.
        sort: What to put first; None to go by the dimensions.
        limit: At most so many rows.
        is_compared: Whether the range before stands beside it.
        is_filled: Whether periods without calls are rows too.
        week_start: The first day of a week.
        default_last: The range where none is given.
        rows: See `Question.rows`.
        names: See `Question.names`.
        sums: See `Question.sums`.
        lead: The columns before the tokens; else one for each dimension, and the counts.
        is_short: Whether the tokens are one column.
        trail: The columns after the cost.
        title: What the head calls it.
        chart: A picture to draw too.
    """

    schema: str
    dimensions: tuple[str, ...]
    cost: str | None = None
    sort: str | None = None
    limit: int | None = None
    is_compared: bool = False
    is_filled: bool = False
    week_start: WeekStart = "monday"
    default_last: str = "30d"
    rows: Callable[[Any, Question], Rows[Any]] | None = None
    names: tuple[str, ...] = ()
    sums: Callable[[Rows[Any]], Mapping[str, Any]] | None = None
    lead: Sequence[Column] | None = None
    is_short: bool = False
    trail: Sequence[Column] = ()
    title: str | None = None
    chart: Path | None = None


def usd_before(found: Answer, before: Any) -> Decimal | None:
    """Return what a row of the range before cost: nothing there is 0, unless nothing is known of that range; unknown stays unknown."""
    if found.is_before_unknown:
        return None
    usd: Decimal | None = Decimal(0) if before is None else getattr(before, found.question.cost_number.field)
    return usd


def unknown_of(row: Any, number: CostNumber) -> int:
    """Return of how many calls, or of parts, one of the three numbers is not known."""
    name = number.unknown_field if hasattr(row, number.unknown_field) else number.unknown_parts_field
    return int(getattr(row, name))


def show_cost(row: Any, number: CostNumber) -> str:
    """Show one of the three numbers of a row: "at least" where it is not known of all."""
    known: Decimal | None = getattr(row, number.field)
    return f"{'≥ ' if known is not None and unknown_of(row, number) else ''}{show_usd(known)}"


def usage_view(found: Answer, wanted: UsageReport, output: Output, *, marks: Mapping[date, str], zone: tzinfo) -> View | None:
    """Return the table: as wide as the terminal, where names give way and numbers never; tokens in one column where five do not fit."""
    fees = found.fees if found.question.cost_number == "paid" else []
    if not found.rows and not fees:
        return None
    lead = [*(wanted.lead or _lead(found, marks=marks, zone=zone))]
    width = console(to_file=output.file is not None).width
    for is_short in (True,) if wanted.is_short else (False, True):
        columns = [*lead, *_numbers(found, is_short=is_short), *wanted.trail]
        rows = [[column.cell(row) for column in columns] for row in found.rows if is_shown(found, row)]
        totals = [["Total", *(column.total(found.totals) for column in columns[1:])]]
        # Not in the total: a flat fee is owed whatever was used.
        totals += [
            [f"Fee {plain(fee.provider)}", *(show_usd(fee.fee_usd) + " " if column.title == "Cost" else "" for column in columns[1:])]
            for fee in fees
        ]
        cells = [[column.title for column in columns], *rows, *totals]
        needed = [max(len(row[number]) for row in cells) for number in range(len(columns))]
        least = (min(one, _LEAST_NAME_CHARS) if column.justify == "left" else one for one, column in zip(needed, columns, strict=True))
        if sum(least) + _GAP * len(columns) <= width:
            break
    return View([(column.title, column.justify) for column in columns], rows, totals)


def is_shown(found: Answer, row: Any) -> bool:
    """Tell whether people are shown a row: not where it is there for its estimates alone, which tables and pictures do not have."""
    if found.question.is_filled or found.question.key(row) in found.before:
        return True
    return found.question.is_of_parts or bool(row.calls or row.unrecorded_calls or row.copied_calls or row.sessions)


def _lead(found: Answer, *, marks: Mapping[date, str], zone: tzinfo) -> list[Column]:
    from opencode_monitor.metrics.dimensions import DIMENSIONS  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    def column(name: str) -> Column:
        dimension = DIMENSIONS[name]
        return Column(
            title=dimension.title,
            justify="whole" if name in (*CURRENT, "hour") else "left",
            cell=lambda row: _show_key(name, getattr(row, dimension.key), marks=marks, zone=zone),
        )

    counts = ("parts",) if found.question.is_of_parts else ("sessions", "calls")
    return [*(column(name) for name in found.question.dimensions), *(count_column(name) for name in counts)]


def count_column(name: str) -> Column:
    """Return the column of a measure that is a count; the totals of parts may be those of their calls, which have other counts."""
    return Column(
        title=name.capitalize(),
        cell=lambda row: f"{getattr(row, name):,}",
        total=lambda totals: f"{getattr(totals, name):,}" if hasattr(totals, name) else "",
    )


def _numbers(found: Answer, *, is_short: bool) -> list[Column]:
    from opencode_monitor.metrics.measures import MEASURES, TOKEN_MEASURES  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    question = found.question
    number = question.cost_number

    def tokens(title: str, *names: str) -> Column:
        def show(row: Any) -> str:
            return show_tokens(sum(getattr(row, name) for name in names))

        return Column(title=title, cell=show, total=show)

    def cost(row: Any) -> str:
        # The dagger points to the note on calls without usage.
        return show_cost(row, number) + ("" if question.is_of_parts else "†" if row.unrecorded_calls else " ")

    columns = [tokens("Tokens", *TOKEN_MEASURES)] if is_short else [tokens(MEASURES[name].title, name) for name in TOKEN_MEASURES]
    columns.append(Column(title="Cost", cell=cost, total=cost))
    if found.totals_before is None:
        return columns

    def before(row: Any) -> Any:
        return found.totals_before if row is found.totals else found.before.get(question.key(row))

    def show_before(row: Any) -> str:
        then = before(row)
        return show_usd(usd_before(found, then)) if then is None or found.is_before_unknown else show_cost(then, number)

    def change(row: Any) -> str:
        return show_change(getattr(row, number.field), usd_before(found, before(row)))

    return [*columns, Column(title="Before", cell=show_before, total=show_before), Column(title="Change", cell=change, total=change)]


def _show_key(name: str, value: Any, *, marks: Mapping[date, str], zone: tzinfo) -> str:
    """Show what a row is about, a period with its mark; calls without a time have no period."""
    if name == "hour":
        return "unknown" if value is None else f"{value.astimezone(zone):%Y-%m-%d %H:%M %z}"
    if name in CURRENT:
        return "unknown" if value is None else f"{value.isoformat()} {marks.get(value, '')}".rstrip()
    return show_name(name, value)


def show_name(dimension: str, value: str | None) -> str:
    """Show the name of a model, a tool, a file: short, and of what has none, what stands for the rest."""
    if value is None:
        return NO_VALUE.get(dimension, "(none)")
    text = plain(value)
    return end_of(text, _NAME_CHARS) if dimension in _PATHS else plain(text, ID_CHARS if dimension == "session" else _NAME_CHARS)
