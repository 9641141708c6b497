"""How things are shown: tables for people, one JSON envelope for programs. All stored text is hostile."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.shown import UNKNOWN, plain, show_usd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

__all__ = ["UNKNOWN", "as_json_value", "console", "envelope", "note", "plain", "show_tokens", "show_usd"]

PROGRAM = "opencode-monitor"
_THOUSAND = 1000


def show_change(now: Decimal | None, before: Decimal | None) -> str:
    """Show how an amount changed against an earlier one: by how much of it, or that it is new; a dash where one is unknown."""
    if now is None or before is None:
        return UNKNOWN
    if not before:
        return "▲ new" if now else ""
    change = round((now - before) / before * 100)
    return f"{'▲' if change > 0 else '▼' if change < 0 else '='} {change:+,}%"


def end_of(text: str, limit: int) -> str:
    """Cut a text at its beginning: the end of a path is what tells files apart."""
    return text if len(text) <= limit else "…" + text[-(limit - 1) :]


def show_tokens(count: int) -> str:
    """Show a token count in three or four characters: 845, 12.4K, 1.2M."""
    size = float(count)
    for unit in ("", "K", "M", "B"):
        if size < _THOUSAND or unit == "B":
            return f"{size:.0f}" if not unit else f"{size:,.1f}{unit}"
        size /= _THOUSAND
    return str(count)


def complain(code: str, lines: Sequence[str], *, hint: str | None = None, as_json: bool) -> None:
    """Write an error to standard error.

    Args:
        code: Its stable name.
        lines: What happened, and where; it may quote what is stored: an id, a path.
        hint: What to do next.
        as_json: Write it for a program.
    """
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": "\n".join(lines), "hint": hint}}), err=True)
        return
    *before, last = lines
    for line in (*before, last if hint is None else f"{last} {hint}"):
        click.echo(f"{PROGRAM}: error: {plain(line)}", err=True)


def as_json_value(value: object) -> Any:
    """Return a value as JSON has it: money as a decimal string, times in ISO form, unknown as null."""
    if isinstance(value, Decimal):
        return format(value.normalize() if value else Decimal(0), "f")
    if isinstance(value, date):
        return value.isoformat()
    return value


def envelope(
    schema: str,
    *,
    rows: Sequence[Any],
    totals: Any | None = None,
    report_range: Mapping[str, str | None] | None = None,
    tz: str | None = None,
    warnings: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> str:
    """Return the JSON that every report prints; arguments as for `document`."""
    # In ASCII: what would steer a terminal arrives as an escape there, and as itself in a program.
    return json.dumps(document(schema, rows=rows, totals=totals, report_range=report_range, tz=tz, warnings=warnings, more=more), indent=2)


def document(
    schema: str,
    *,
    rows: Sequence[Any],
    totals: Any | None = None,
    report_range: Mapping[str, str | None] | None = None,
    tz: str | None = None,
    warnings: Sequence[str] = (),
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the object of which every report's JSON is made.

    Args:
        schema: The report's name; the envelope adds the version.
        rows: Dataclasses or dictionaries.
        totals: One of the same, over all rows.
        report_range: What was looked at.
        tz: The zone of its days.
        warnings: What a reader of the numbers must know.
        more: What this report says beside its rows, by name.
    """
    return {
        "schema": f"opencode-monitor/{schema}@1",
        "range": report_range,
        "tz": tz,
        "rows": [_as_object(row) for row in rows],
        "totals": None if totals is None else _as_object(totals),
        **(more or {}),
        "warnings": list(warnings),
    }


def _as_object(row: Any) -> dict[str, Any]:
    items: dict[str, Any] = row if isinstance(row, dict) else dataclasses.asdict(row)
    return {name: as_json_value(value) for name, value in items.items()}


def console(*, stderr: bool = False, to_file: bool = False) -> Console:
    """Return where tables go: as wide as the terminal, in plain text where it is none.

    Args:
        stderr: To standard error.
        to_file: Not to the screen: what is captured will be written to a file.
    """
    from rich.console import Console  # noqa: PLC0415 - reports only

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich's own would exit with 1

    stream = sys.stderr if stderr else sys.stdout
    # Where it is not told both, rich takes a dumb terminal (TERM=dumb) for 80 columns wide.
    width, height = shutil.get_terminal_size() if stream.isatty() and not to_file else (120, 25)
    if to_file:
        return Console(file=io.StringIO(), width=width, height=height, highlight=False, emoji=False, markup=False)
    return Output(file=stream, width=width, height=height, highlight=False, soft_wrap=False, emoji=False, markup=False)


def note(message: str, *, quiet: bool = False) -> None:
    """Print a remark to standard error, apart from the data."""
    if not quiet:
        click.echo(message, err=True)


def count_of(number: int, one: str, many: str | None = None) -> str:
    """Return a number of things, and what is said of them.

    Args:
        number: How many.
        one: What it says of one.
        many: What it says of none or several; by default the same with an s.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
