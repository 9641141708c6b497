"""Reports on their way out: a table for people, JSON, lines of JSON, CSV or Markdown, to the screen or into a file."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.render import as_json_value, console, envelope, note, plain, table
from opencode_monitor.db.spreadsheets import guarded
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from opencode_monitor.cli.options import Output
    from opencode_monitor.cli.ranges import ReportRange

_GAP = 3  # between columns
_LEAST_NAME_CHARS = 6


@dataclass(frozen=True, slots=True)
class View:
    """What a table shows; every text in it is fit for a terminal.

    Attributes:
        headers: Title and alignment (`left` or `right`) of each column.
        rows: The cells of each row.
        totals: Rows below a line, bold.
        leaders: The numbers of the rows that begin a group: bold, with a gap before.
    """

    headers: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]
    totals: Sequence[Sequence[str]] = ()
    leaders: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One answer, in every form.

    Attributes:
        schema: Its name; the JSON adds the version.
        head: What it is about, in a line: what, range, zone.
        view: The table; None where there is nothing to show, and then `empty` is said.
        empty: What to say instead of an empty table.
        after: What follows the table, where people read it.
        rows: The same as objects.
        totals: Over all rows.
        report_range: What was looked at; its zone is the report's.
        warnings: What a reader of the numbers must know, each with the mark that points to it from the table.
        remarks: What explains the table alone, each with its mark.
        more: What it says beside its rows, by name.
        drawing: What a terminal shows instead of the table.
    """

    schema: str
    head: str
    view: View | None
    empty: str
    rows: Sequence[Mapping[str, Any]]
    totals: Mapping[str, Any] | None
    after: Sequence[str | View] = ()
    report_range: ReportRange | None = None
    warnings: Sequence[tuple[str, str]] = ()
    remarks: Sequence[tuple[str, str]] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    drawing: RenderableType | None = None


def emit(report: Report, output: Output, *, quiet: bool) -> None:
    """Write a report.

    Args:
        report: The report.
        output: How and where to.
        quiet: Leave out remarks on standard error.

    Raises:
        UsageError: A column is asked for that the report does not have, or the directory of the file is not there.
    """
    rows = _chosen(report, output.columns)
    match output.format:
        case "json":
            text = _json(report, rows) + "\n"
        case "jsonl":
            text = "".join(json.dumps({name: as_json_value(value) for name, value in row.items()}) + "\n" for row in rows)
        case "csv":
            text = _csv(report, rows, output)
        case "md":
            text = _markdown(report, _view(report, rows, output), output)
        case _:
            text = _table(report, _view(report, rows, output), output)
    if output.file is None:
        # Already as it is meant to be, colours included: click would take those out of what is no terminal, as rich does.
        click.echo(text, nl=False, color=True)
    else:
        from opencode_monitor.exports.files import replacing  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

        with replacing(output.file) as partial:
            partial.write_text(text, encoding="utf-8")
        note(f"Wrote {output.file}.", quiet=quiet)
    if output.format == "json":
        return
    if output.format in {"jsonl", "csv"}:
        note(report.head, quiet=quiet)
    for mark, text in [*(report.remarks if output.is_table else ()), *report.warnings]:
        note(f"{mark} {text}".strip(), quiet=quiet)


def _chosen(report: Report, columns: tuple[str, ...] | None) -> list[Mapping[str, Any]]:
    if columns is None:
        return list(report.rows)
    if report.rows:
        known = report.rows[0]
        unknown = [name for name in columns if name not in known]
        if unknown:
            raise UsageError(f"--columns: there is no {unknown[0]!r}.", hint=f"Use some of: {', '.join(known)}.")
    return [{name: row.get(name) for name in columns} for row in report.rows]


def _view(report: Report, rows: Sequence[Mapping[str, Any]], output: Output) -> View | None:
    """Return the report's own table, or a plain one of the fields that were asked for."""
    if output.columns is None or report.view is None:
        return report.view
    return View(
        [(name, "left" if rows and isinstance(rows[0][name], str) else "right") for name in output.columns],
        [[plain(_as_text(value)) for value in row.values()] for row in rows],
    )


def _json(report: Report, rows: Sequence[Mapping[str, Any]]) -> str:
    return envelope(
        report.schema,
        rows=rows,
        totals=report.totals,
        report_range=report.report_range.as_json() if report.report_range else None,
        tz=report.report_range.tz if report.report_range else None,
        warnings=[text for _, text in report.warnings],
        more=report.more,
    )


def _csv(report: Report, rows: Sequence[Mapping[str, Any]], output: Output) -> str:
    """Write objects as RFC 4180 has it, with texts that neither a spreadsheet nor a terminal runs; an unknown value is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = output.columns or (tuple(report.rows[0]) if report.rows else ())
    if output.has_header and names:
        writer.writerow(names)
    for row in rows:
        writer.writerow([guarded(plain(value)) if isinstance(value, str) else _as_text(value) for value in row.values()])
    return text.getvalue()


def _as_text(value: Any) -> str:
    value = as_json_value(value)
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, dict | list | tuple | bool) else str(value)


def _markdown(report: Report, view: View | None, output: Output) -> str:
    blocks = [_escaped(report.head), _escaped(report.empty) if view is None else _markdown_table(view, output)]
    blocks += [_escaped(one) if isinstance(one, str) else _markdown_table(one, output) for one in report.after]
    return "\n\n".join(blocks) + "\n"


def _markdown_table(view: View, output: Output) -> str:
    header = [title if output.has_header else "" for title, _ in view.headers]
    lines = [_line(map(_escaped, header)), "|" + "|".join("--:" if justify == "right" else "---" for _, justify in view.headers) + "|"]
    lines.extend(_line(map(_escaped, row)) for row in view.rows)
    lines.extend(_line(f"**{_escaped(cell.strip())}**" if cell.strip() else "" for cell in row) for row in view.totals)
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.strip() for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is: no tag, no link, no new column."""
    return "".join(f"\\{character}" if character in "\\|`*_<>[]#~&" else character for character in text)


def _table(report: Report, view: View | None, output: Output) -> str:
    screen = console(to_file=output.file is not None)
    with screen.capture() as captured:
        screen.print(report.head)
        if report.drawing is not None and view is not None and output.columns is None:
            screen.print(report.drawing)
        else:
            screen.print(report.empty if view is None else _screen_table(view, output, screen.width))
        for one in report.after:
            screen.print()
            screen.print(one if isinstance(one, str) else _screen_table(one, output, screen.width))
    return captured.get()


def _screen_table(view: View, output: Output, width: int) -> Table:
    shown = table(view.headers)
    shown.show_header = output.has_header
    for column, name_width in zip(shown.columns, _name_widths(view, width), strict=True):
        column.width = name_width
    for number, row in enumerate(view.rows):
        if number in view.leaders and number:
            shown.add_section()
        shown.add_row(*row, style="bold" if number in view.leaders else None)
    if view.totals:
        shown.add_section()
    for row in view.totals:
        shown.add_row(*row, style="bold")
    return shown


def _name_widths(view: View, width: int) -> list[int | None]:
    """Return how wide the columns of names may be where a table is wider than the terminal: names give way, the longest first.

    A number that is cut would be another number, so columns of numbers get None: as wide as they are.
    """
    from rich.cells import cell_len  # noqa: PLC0415 - reports only

    cells = [[title for title, _ in view.headers], *view.rows, *view.totals]
    widths = [max(cell_len(row[number]) for row in cells) for number in range(len(view.headers))]
    names = {number: widths[number] for number, (_, justify) in enumerate(view.headers) if justify == "left"}
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    while excess > 0 and names and max(names.values()) > _LEAST_NAME_CHARS:
        longest = max(names, key=lambda number: names[number])
        names[longest] -= 1
        excess -= 1
    return [names.get(number) for number in range(len(widths))]
