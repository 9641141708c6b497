"""What a chart shows: one band per period or name, with its segments in USD. No drawing, and no package of an extra."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, localcontext
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, TypeVar

from opencode_monitor.metrics.dimensions import Interval
from opencode_monitor.shown import plain, show_usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_SERIES = 8
"""Colours that can be told apart; what more there is becomes one of its own, `other`."""

MAX_NAMES = 30
"""Names that have a bar; of the rest a note says what they come to: as one bar, they would dwarf the others."""

NO_PRICE, AT_LEAST_MARK = "no price", "≥"

_NAME_CHARS = 48
_SERIES_CHARS = 32
_NO_NAME = "(none)"
_EMPTY_NAME = "(empty)"
_NO_DATE = "(no date)"
_DIGITS = 50
_DECEMBER = 12
_DAYS = {Interval.DAY: 1, Interval.WEEK: 7, Interval.MONTH: 30}
_MAX_PERIODS = 2000
_OF_EVERY_OBJECT = {
    *("constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf"),
    *("__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"),
}

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """One amount of a chart.

    Attributes:
        key: The first day of its period, or its name; None for what has none.
        series: What it is told apart by within its period or name; None where nothing is.
        usd: What is known of the cost; None where it is not known at all, which is not 0.
        is_complete: Whether its period is over.
        is_least: Whether it is "at least" so much, as some of its cost is not known.
    """

    key: date | str | None
    series: str | None
    usd: Decimal | None
    is_complete: bool = True
    is_least: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """What to draw.

    Attributes:
        title: What it shows.
        subtitle: Of when, in which zone, at which price.
        kind: `periods` for bars over time, `names` for horizontal ones, the most expensive first.
        axis_title: What the amounts are, such as "USD at list price".
        points: The amounts, in any order; several of the same key add up.
        interval: How long a period is: those without a point keep their place, empty.
    """

    title: str
    subtitle: str
    kind: Literal["periods", "names"]
    axis_title: str
    points: Sequence[ChartPoint]
    interval: Interval = Interval.DAY


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar.

    Attributes:
        series: Its label; None where a chart has no series.
        start: Where it begins, in USD.
        end: Where it ends.
        is_least: Whether it is at least so much.
    """

    series: str | None
    start: Decimal
    end: Decimal
    is_least: bool

    @property
    def amount(self) -> str:
        """The amount in words."""
        return _amount(self.end - self.start, is_least=self.is_least)


@dataclass(frozen=True, slots=True)
class Band:
    """A period or name with its bar.

    Attributes:
        label: What it is called on the axis, and on no other band.
        day: The first day of a period, as in its label; None where it is none's.
        known: The sum of what is known; None where nothing is.
        is_complete: Whether its period is over.
        is_least: Whether it is at least so much.
        segments: Its bar, from 0 up.
    """

    label: str
    day: str | None
    known: Decimal | None
    is_complete: bool
    is_least: bool
    segments: tuple[Segment, ...]

    @property
    def amount(self) -> str:
        """The amount in words."""
        return NO_PRICE if self.known is None else _amount(self.known, is_least=self.is_least)


@dataclass(frozen=True, slots=True)
class Bands:
    """What is drawn.

    Attributes:
        shown: In the order of the axis.
        rest: The names past `MAX_NAMES` together; None where there are none.
        series: Their labels, the most expensive first and `other` last; none where a chart has no series.
    """

    shown: list[Band]
    rest: Band | None
    series: list[str]


def bands_of(chart: Chart) -> Bands:
    """Return what of a chart is drawn.

    Args:
        chart: With any number of points, of any text.
    """
    with localcontext(prec=_DIGITS):
        labels = _series_labels(chart.points)
        groups: dict[date | str | None, list[ChartPoint]] = defaultdict(list)
        for point in chart.points:
            groups[point.key].append(point)
        others: list[date | str | None] = []
        if chart.kind == "names":
            ranked = _ranked(groups)
            keys, others = ranked[:MAX_NAMES], ranked[MAX_NAMES:]
        else:
            periods = _every_period(sorted(key for key in groups if isinstance(key, date)), chart.interval)
            keys = [*periods, *sorted((key for key in groups if not isinstance(key, date)), key=str)]
        nameless = _NO_NAME if chart.kind == "names" else _NO_DATE
        names = _unique([nameless if key is None else str(key) for key in keys], _NAME_CHARS)
        rest = [point for key in others for point in groups[key]]
        return Bands(
            shown=[_band(key, name, groups.get(key, []), labels) for key, name in zip(keys, names, strict=True)],
            rest=_band(None, f"{len(others)} more", rest, labels) if others else None,
            series=list(dict.fromkeys(label for label in labels.values() if label is not None)),
        )


def _band(key: date | str | None, label: str, points: Sequence[ChartPoint], labels: Mapping[str | None, str | None]) -> Band:
    by_series = dict.fromkeys(labels.values(), Decimal(0))
    for point in points:
        by_series[labels[point.series]] += point.usd or 0
    least = {labels[point.series] for point in points if point.usd is None or point.is_least}
    ends = [Decimal(0), *accumulate(by_series.values())]
    parts = zip(by_series, ends, ends[1:], strict=False)
    return Band(
        label=label,
        day=label if isinstance(key, date) else None,
        # "At least 0" says nothing.
        known=None if least and not ends[-1] else ends[-1],
        is_complete=all(point.is_complete for point in points),
        is_least=bool(least),
        segments=tuple(Segment(name, start, end, name in least) for name, start, end in parts if start != end),
    )


def _series_labels(points: Sequence[ChartPoint]) -> dict[str | None, str | None]:
    """Return the label of each series, the most expensive first; those past `MAX_SERIES` share one."""
    groups: dict[str | None, list[ChartPoint]] = defaultdict(list)
    for point in points:
        groups[point.series].append(point)
    if set(groups) <= {None}:
        return {None: None}
    ranked = _ranked(groups)
    names = [_NO_NAME if name is None else name for name in ranked[:MAX_SERIES]]
    if len(ranked) > MAX_SERIES:
        names.append("other")
    unique = _unique(names, _SERIES_CHARS)
    return {name: unique[min(number, MAX_SERIES)] for number, name in enumerate(ranked)}


def _ranked(groups: Mapping[Key, Sequence[ChartPoint]]) -> list[Key]:
    """Return keys, the most expensive first and the unknown last."""
    known = {key: _known(points) for key, points in groups.items()}
    return sorted(groups, key=lambda key: (known[key] is None, -(known[key] or Decimal(0)), str(key)))


def _known(points: Iterable[ChartPoint]) -> Decimal | None:
    known = [point.usd for point in points if point.usd is not None]
    return sum(known, Decimal(0)) if known else None


def _amount(usd: Decimal, *, is_least: bool) -> str:
    return f"{AT_LEAST_MARK} {show_usd(usd)}" if is_least else show_usd(usd)


def _every_period(found: Sequence[date], interval: Interval) -> list[date]:
    """Return the first days of all periods from the first to the last: time passes also where nothing was spent."""
    # One wrong clock would otherwise make thousands of years.
    if not found or (found[-1] - found[0]).days > _MAX_PERIODS * _DAYS[interval]:
        return list(found)
    days, day = set(found), found[0]
    while (day := _next(day, interval)) <= found[-1]:
        days.add(day)
    return sorted(days)


def _next(day: date, interval: Interval) -> date:
    if interval is Interval.MONTH:
        return date(day.year + day.month // _DECEMBER, day.month % _DECEMBER + 1, 1)
    return day + timedelta(days=_DAYS[interval])


def text_of(text: str, limit: int | None = None) -> str:
    """Return stored text as a chart may show it.

    Args:
        text: Any text.
        limit: Cut after so many characters.
    """
    shown = plain(text, limit)
    # Vega looks texts up in an object, finds what every object of JavaScript has, and fails. A space makes it another text.
    return f"{shown} " if shown in _OF_EVERY_OBJECT else shown


def _unique(names: Sequence[str], limit: int) -> list[str]:
    """Return names as they may be shown, cut, and each another: two bars of one name would be drawn as one."""
    taken: set[str] = set()
    labels: list[str] = []
    for name in names:
        # Of a path, the end tells more than the beginning.
        cut = name if len(name) <= limit else f"{name[: limit // 3]}…{name[limit // 3 + 1 - limit :]}"
        label = shown = text_of(cut.strip()) or _EMPTY_NAME
        number = 1
        while label in taken:
            number += 1
            label = f"{shown} ({number})"
        taken.add(label)
        labels.append(label)
    return labels
