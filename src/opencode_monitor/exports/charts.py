"""Charts of cost as SVG and PNG: drawn by Vega-Altair and vl-convert, in this process, with no request to anyone.

Stored text stands in what is drawn as values alone; no expression of Vega's holds any of it.
"""

from __future__ import annotations

import json
from datetime import date
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from opencode_monitor.errors import UsageError
from opencode_monitor.exports.bands import AT_LEAST_MARK, MAX_SERIES, NO_PRICE, Band, Bands, Chart, ChartPoint, bands_of, text_of
from opencode_monitor.exports.files import replacing
from opencode_monitor.extras import imports_of
from opencode_monitor.metrics.dimensions import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Chart", "ChartPoint", "write_chart"]

WIDTH = 900
"""Of the picture, in pixels; a PNG has twice as many."""

PNG_SCALE = 2

NO_PRICE_MARK = "\N{MULTIPLICATION SIGN}"

_HEIGHT = 420
_BAR_HEIGHT = 26
_HEIGHT_AROUND_NAMES = 170
_HEIGHT_OF_LEGEND = 290
_TITLE_CHARS = 90
_SUBTITLE_CHARS = 140
_MAX_DATES = 12
_CHAR_WIDTH, _AXIS_WIDTH, _LEGEND_WIDTH = 6.5, 90, 300
_MAX_BAR, _LEAST_OUTLINED = 80, 10
_TICKS = 5
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
_INK, _FAINT, _GRID = "#222222", "#666666", "#E4E4E4"
# Paul Tol's "bright" blue where nothing is told apart; else his "muted" scheme, and its grey for the rest.
_ONE_COLOUR = "#4477AA"
_COLOURS = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933")
_OTHER_COLOUR = "#BBBBBB"
_INCOMPLETE_OPACITY = 0.45


def write_chart(chart: Chart, file: Path) -> None:
    """Draw a chart into a file, which is there wholly or not at all.

    Args:
        chart: What to draw.
        file: What to write, readable by its owner alone, as SVG or PNG by its name; one of the same name is replaced.

    Raises:
        UsageError: The name asks for an unknown format, or the directory is not there.
        MissingExtraError: The packages that draw are not installed.
    """
    suffix = file.suffix.lower()
    if suffix not in {".svg", ".png"}:
        raise UsageError(f"{file}: the name of a chart must end in .svg or .png.")
    with imports_of("charts", needed_by="a chart", packages="altair and vl-convert-python"):
        import altair as alt  # noqa: PLC0415 - optional extras, and slow to import
        import vl_convert  # noqa: PLC0415 - as above
    with replacing(file) as partial:
        specification = _specification(alt, chart)
        # No address is allowed, though the chart names none.
        if suffix == ".svg":
            svg = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
            said = quoteattr(f"{text_of(chart.title, _TITLE_CHARS)}. {text_of(chart.subtitle, _SUBTITLE_CHARS)}")
            partial.write_text(svg.replace("<svg ", f'<svg role="graphics-document" aria-label={said} ', 1), encoding="utf-8")
        else:
            partial.write_bytes(vl_convert.vegalite_to_png(specification, scale=PNG_SCALE, allowed_base_urls=[]))


def _specification(alt: Any, chart: Chart) -> dict[str, Any]:
    """Return the chart in Vega-Lite's terms, its rows apart from what they mean."""
    found = bands_of(chart)
    bands, series = found.shown, found.series
    is_names = chart.kind == "names"
    # Room for the amounts beyond the bars.
    top = float(max((band.known for band in bands if band.known), default=0)) * (1.15 if is_names else 1.08) or 1.0
    amounts = alt.Axis(title=text_of(chart.axis_title, _TITLE_CHARS), format=_amount_format(top), tickCount=_TICKS, grid=True)
    domain = alt.Scale(domain=[0, top], nice=False)
    shared = {"scale": alt.Scale(domain=[band.label for band in bands], paddingInner=0.2, paddingOuter=0.1), "title": None}
    if is_names:
        across = alt.Y("band:O", axis=alt.Axis(labelLimit=340, ticks=False, domain=False), **shared)
        along, along_end = alt.X("start:Q", axis=amounts, scale=domain), alt.X2("end:Q")
        at, beside = alt.X("at:Q"), {"align": "left", "baseline": "middle", "dx": 5}
    else:
        across = alt.X("band:O", axis=_dates_axis(alt, bands, chart.interval), **shared)
        along, along_end = alt.Y("start:Q", axis=amounts, scale=domain), alt.Y2("end:Q")
        at, beside = alt.Y("at:Q"), {"align": "center", "baseline": "bottom", "dy": -4}
    colour: Any = alt.value(_ONE_COLOUR)
    if series:
        colours = [*_COLOURS[: min(len(series), MAX_SERIES)], *([_OTHER_COLOUR] if len(series) > MAX_SERIES else [])]
        # From the top down as the segments lie upon each other.
        legend = alt.Legend(title=None, orient="right", symbolType="square", labelLimit=230, values=series if is_names else series[::-1])
        colour = alt.Color("series:N", scale=alt.Scale(domain=series, range=colours), legend=legend)
    band_width = _band_width(found)
    size = {"size": _MAX_BAR} if not is_names and band_width > 2 * _MAX_BAR else {}
    bars = (
        alt.Chart(alt.NamedData("segments"))
        .mark_bar(stroke="white", strokeWidth=0.5 if series and (is_names or band_width >= _LEAST_OUTLINED) else 0, **size)
        .encode(
            across,
            along,
            along_end,
            color=colour,
            opacity=alt.Opacity("opacity:Q", scale=None, legend=None),
            description=alt.Description("said:N"),
        )
    )
    texts = (
        alt.Chart(alt.NamedData("texts"))
        .mark_text(color=_INK, fontSize=11, **beside)
        .encode(across, at, text="text:N", description=alt.Description("said:N"))
    )
    has_room = _has_room(chart, found)
    lines = (text_of(chart.subtitle, _SUBTITLE_CHARS), _notes(found, has_room=has_room))
    picture = (
        alt.layer(bars, texts)
        .properties(
            width=WIDTH,
            height=max(_HEIGHT_AROUND_NAMES + _BAR_HEIGHT * len(bands), _HEIGHT_OF_LEGEND if series else 0) if is_names else _HEIGHT,
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
            background="white",
            padding=16,
            title=alt.TitleParams(
                text=text_of(chart.title, _TITLE_CHARS),
                subtitle=[line for line in lines if line],
                anchor="start",
                frame="bounds",
                offset=14,
            ),
        )
        .configure(font=_FONT)
        .configure_title(fontSize=18, color=_INK, subtitleFontSize=12, subtitleColor=_FAINT, subtitlePadding=5, subtitleLineHeight=16)
        .configure_axis(labelColor=_INK, titleColor=_FAINT, gridColor=_GRID, labelFontSize=11, titleFontSize=12, titleFontWeight="normal")
        .configure_legend(labelFontSize=12, labelColor=_INK, rowPadding=5)
        .configure_view(stroke=None)
    )
    specification: dict[str, Any] = picture.to_dict()
    specification["datasets"] = {"segments": _segment_rows(bands), "texts": _text_rows(bands, chart.kind, has_room=has_room)}
    return specification


def _dates_axis(alt: Any, bands: Sequence[Band], interval: Interval) -> Any:
    """Return the axis of periods: some of them named, by day and month, the year where it begins."""
    days = [date.fromisoformat(band.day) for band in bands if band.day is not None]
    named = days[:: ceil(len(days) / _MAX_DATES) or 1]
    labels: dict[str, list[str]] = {}
    for number, day in enumerate(named):
        month = _MONTHS[day.month - 1]
        first = month if interval is Interval.MONTH else f"{day.day} {month}"
        is_new = number == 0 or day.year != named[number - 1].year
        labels[day.isoformat()] = [first, str(day.year)] if is_new else [first]
    others = [band.label for band in bands if band.day is None]
    # The expression holds dates that were written here, and no stored text.
    expression = f"indexof({json.dumps([*labels])}, datum.value) < 0 ? datum.value : {json.dumps(labels)}[datum.value]"
    return alt.Axis(values=[*labels, *others], labelExpr=expression, labelAngle=0, labelOverlap=False, labelPadding=6, ticks=False)


def _has_room(chart: Chart, found: Bands) -> bool:
    """Tell whether an amount fits beside each bar; where it does not, marks say what is not known."""
    longest = max((len(band.amount) for band in found.shown), default=0)
    return chart.kind == "names" or longest * _CHAR_WIDTH <= _band_width(found)


def _band_width(found: Bands) -> float:
    """Return about how wide the band of a period is, in pixels: the axis takes some of the width, and a legend more."""
    return (WIDTH - (_LEGEND_WIDTH if found.series else _AXIS_WIDTH)) / max(len(found.shown), 1)


def _notes(found: Bands, *, has_room: bool) -> str:
    """Return what a reader has to know of the marks that are drawn, and of what is not."""
    notes = []
    if any(band.known is None for band in found.shown):
        notes.append(f"{NO_PRICE if has_room else f'{NO_PRICE_MARK} {NO_PRICE}'}: the cost is not known, and not 0")
    if any(band.is_least and band.known is not None for band in found.shown):
        notes.append(f"{AT_LEAST_MARK} at least: some of it is not known")
    if not all(band.is_complete for band in found.shown):
        notes.append("lighter: not complete")
    if found.rest is not None:
        notes.append(f"{found.rest.label}: {found.rest.amount} together")
    return " · ".join(notes) if found.shown else "nothing to show"


def _amount_format(top: float) -> str:
    """Return how Vega writes amounts on an axis up to one: with as many digits as tell its ticks apart."""
    # Its ticks are 1, 2 or 5 times a power of ten, about five of them.
    digits = max(0, -floor(log10(top / _TICKS)))
    return f"$,.{2 if digits == 1 else digits}f"


def _segment_rows(bands: Sequence[Band]) -> list[dict[str, Any]]:
    return [
        {
            "band": band.label,
            "series": segment.series,
            "start": float(segment.start),
            "end": float(segment.end),
            "opacity": 1 if band.is_complete else _INCOMPLETE_OPACITY,
            "said": ", ".join(filter(None, (band.label, segment.series, segment.amount, "" if band.is_complete else "not complete"))),
        }
        for band in bands
        for segment in band.segments
    ]


def _text_rows(bands: Sequence[Band], kind: str, *, has_room: bool) -> list[dict[str, Any]]:
    """Return what stands beside bars: their amount where there is room, and always that it is not, or not wholly, known."""
    rows = []
    for band in bands:
        is_shown = has_room and (kind == "names" or band.known != 0)
        mark = NO_PRICE_MARK if band.known is None else AT_LEAST_MARK if band.is_least else ""
        if text := band.amount if is_shown else mark:
            rows.append({"band": band.label, "at": float(band.known or 0), "text": text, "said": f"{band.label}, {band.amount}"})
    return rows
