"""Reports on their way out: a table for people, JSON, lines of JSON, CSV or Markdown, to the screen or into a file."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.render import as_json_value, console, envelope, note, plain
from opencode_monitor.db.spreadsheets import guarded
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console, RenderableType

    from opencode_monitor.cli.options import Output
    from opencode_monitor.cli.ranges import ReportRange

_GAP = 3  # between columns
_LEAST_GAP = 1
_NAME_CHARS = 16
_FOLDED_NAME_CHARS = 24
_LEAST_NAME_CHARS = 6


@dataclass(frozen=True, slots=True)
class View:
    """What a table shows; every text in it is fit for a terminal.

    Attributes:
        headers: Title and kind of each column: `left` for names, which give way where there is little room, `right` for numbers, which
            do not, and `whole` for what stands left and is not cut either.
        rows: The cells of each row.
        totals: Rows below a line, bold.
        leaders: The numbers of the rows that begin a group: bold, with a gap before.
        marked: The numbers of further bold rows.
        is_folded: Whether names are broken into lines where there is little room, and on a terminal only; else they are cut.
    """

    headers: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]
    totals: Sequence[Sequence[str]] = ()
    leaders: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()
    is_folded: bool = False


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
            _print(screen, report.empty if view is None else view, output)
        for one in report.after:
            screen.print()
            _print(screen, one, output)
    return captured.get()


def _print(screen: Console, shown: str | View, output: Output) -> None:
    if isinstance(shown, str):
        screen.print(shown)
    else:
        print_view(screen, shown, has_header=output.has_header)


def print_view(screen: Console, view: View, *, has_header: bool = True) -> None:
    """Print a table: as wide as the terminal where names can give way for that, wider where it takes that to show every number.

    Args:
        screen: Where to.
        view: The table.
        has_header: Whether its columns have titles.
    """
    from rich import box  # noqa: PLC0415 - reports only
    from rich.table import Table  # noqa: PLC0415 - as above

    titles, widths, gap = _fit(view, None if view.is_folded and not screen.is_terminal else screen.width)
    shown = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, (gap - 1) // 2),
        header_style="bold",
        show_header=has_header,
        # Not told how wide the whole is, rich would cut every column to have it fit.
        width=_width(widths, gap),
    )
    for title, width, (_, justify) in zip(titles, widths, view.headers, strict=True):
        is_folded = view.is_folded and justify == "left"
        shown.add_column(
            title,
            justify="right" if justify == "right" else "left",
            vertical="bottom" if "\n" in "".join(titles) else "top",
            overflow="fold" if is_folded else "ellipsis",
            no_wrap=not is_folded,
            width=width,
        )
    for number, row in enumerate(view.rows):
        if number in view.leaders and number:
            shown.add_section()
        shown.add_row(*row, style="bold" if number in view.leaders | view.marked else None)
    if view.totals:
        shown.add_section()
    for row in view.totals:
        shown.add_row(*row, style="bold")
    screen.print(shown, crop=False)


def _fit(view: View, room: int | None) -> tuple[list[str], list[int], int]:
    """Return titles and widths of the columns, and what is between two, for a terminal `room` wide; None is one with room for all.

    Names give way, the longest first. Before they are hardly names any more, titles of numbers are broken into lines, and columns move
    together. A number that is cut would be another number: where all that is not enough, the table is wider, with names to tell rows by.
    """
    from rich.cells import cell_len  # noqa: PLC0415 - reports only

    titles = [title for title, _ in view.headers]
    contents = [max((cell_len(row[number]) for row in (*view.rows, *view.totals)), default=0) for number in range(len(titles))]
    widths = [max(content, cell_len(title)) for content, title in zip(contents, titles, strict=True)]
    names = [number for number, (_, justify) in enumerate(view.headers) if justify == "left"]
    if room is None or _width(widths, _GAP) <= room:
        return titles, widths, _GAP
    shorter = _shortened(widths, names, room, _GAP, _FOLDED_NAME_CHARS if view.is_folded else _NAME_CHARS)
    if view.is_folded or _width(shorter, _GAP) <= room:
        return titles, shorter, _GAP
    for number in set(range(len(titles))) - set(names):
        widths[number] = max(contents[number], *map(cell_len, titles[number].split(" ")))
        titles[number] = "\n".join(textwrap.wrap(titles[number], max(widths[number], 1)))
    for gap, least in ((_GAP, _NAME_CHARS), (_LEAST_GAP, _NAME_CHARS), (_LEAST_GAP, _LEAST_NAME_CHARS)):
        shorter = _shortened(widths, names, room, gap, least)
        if _width(shorter, gap) <= room:
            return titles, shorter, gap
    return titles, _shortened(widths, names, room, _LEAST_GAP, _NAME_CHARS), _LEAST_GAP


def _width(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _shortened(widths: Sequence[int], names: Sequence[int], room: int, gap: int, least: int) -> list[int]:
    """Return widths with the longest names made shorter until all fits, or all of them are as short as they may be."""
    shorter = list(widths)
    while _width(shorter, gap) > room and names and max(shorter[number] for number in names) > least:
        shorter[max(names, key=lambda number: shorter[number])] -= 1
    return shorter
