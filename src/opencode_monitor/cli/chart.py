"""`--chart`: what a report found, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.usage_view import NO_VALUE, is_shown
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from datetime import date

    from opencode_monitor.reports.usage import Answer

chart_option = click.option(
    "--chart",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the cost too, as FILE.svg or FILE.png; needs the extra [charts].",
)


def draw(found: Answer, file: Path, *, title: str, subtitle: str, current: date | None) -> None:
    """Draw the cost of an answer: bars over time, or by name.

    Args:
        found: What to draw.
        file: What to write.
        title: Above the picture.
        subtitle: Below the title: the range, its zone, which number.
        current: The period of now, which is incomplete.

    Raises:
        UsageError: There are more dimensions than a picture has room for, or the file's name ends in neither .svg nor .png.
    """
    from opencode_monitor.exports.charts import Chart, ChartPoint, write_chart  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.metrics.dimensions import Interval  # noqa: PLC0415 - as above

    question = found.question
    first, *others = question.dimensions
    if len(others) > 1:
        raise UsageError("--chart draws one dimension, or two. Leave the others out.")
    if first == "hour" or (others and first not in list(Interval)):
        raise UsageError("--chart draws days, weeks or months, which another dimension may split, or one other dimension.")
    number = question.cost_number
    unknown = number.unknown_parts_field if question.is_of_parts else number.unknown_field
    points = []
    for row in (row for row in found.rows if is_shown(found, row)):
        key: tuple[Any, ...] = question.key(row)
        series = (str(key[1]) if key[1] is not None else "(none)") if others else None
        points.append(
            ChartPoint(
                key=NO_VALUE.get(first) if key[0] is None else key[0],
                series=series,
                usd=getattr(row, number.field),
                is_complete=current is None or key[0] != current,
                is_least=getattr(row, unknown) > 0,
            )
        )
    is_over_time = first in list(Interval)
    chart = Chart(
        title=title,
        subtitle=subtitle,
        kind="periods" if is_over_time else "names",
        axis_title="Cost in USD",
        points=points,
        **({"interval": Interval(first)} if is_over_time else {}),
    )
    write_chart(chart, file)
