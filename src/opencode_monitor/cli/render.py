"""How things are shown: tables for people, one JSON envelope for programs. All stored text is hostile."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import unicodedata
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

PROGRAM = "opencode-monitor"
UNKNOWN = "—"
_SMALL_USD = Decimal("0.01")
_TINY_USD = Decimal("0.00005")
_THOUSAND = 1000


def show_usd(value: Decimal | None) -> str:
    """Show USD with two digits, below a cent with four; an unknown amount is a dash, and only nothing is 0."""
    if value is None:
        return UNKNOWN
    if value and abs(value) < _TINY_USD:
        return "<$0.0001"
    if value and abs(value) < _SMALL_USD:
        return f"${value:.4f}"
    return f"${value:,.2f}"


def show_tokens(count: int) -> str:
    """Show a token count in three or four characters: 845, 12.4K, 1.2M."""
    size = float(count)
    for unit in ("", "K", "M", "B"):
        if size < _THOUSAND or unit == "B":
            return f"{size:.0f}" if not unit else f"{size:,.1f}{unit}"
        size /= _THOUSAND
    return str(count)


def plain(text: str | None, limit: int | None = None) -> str:
    """Return stored text as it may be printed: control and direction characters are replaced, so that it cannot steer the terminal.

    Args:
        text: Any stored text.
        limit: Cut after so many characters.
    """
    safe = "".join("�" if unicodedata.category(character).startswith("C") else character for character in text or "")
    return safe if limit is None or len(safe) <= limit else safe[: limit - 1] + "…"


def complain(code: str, message: str, *, as_json: bool) -> None:
    """Write an error in one line to standard error.

    Args:
        code: Its stable name.
        message: What happened, where, and what to do next; it may quote what is stored: an id, a path.
        as_json: Write it for a program.
    """
    if as_json:
        click.echo(json.dumps({"error": {"code": code, "message": message}}), err=True)
    else:
        click.echo(f"{PROGRAM}: error: {plain(message)}", err=True)


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
    """Return the JSON that every report prints.

    Args:
        schema: The report's name; the envelope adds the version.
        rows: Dataclasses or dictionaries.
        totals: One of the same, over all rows.
        report_range: What was looked at.
        tz: The zone of its days.
        warnings: What a reader of the numbers must know.
        more: What this report says beside its rows, by name.
    """
    document = {
        "schema": f"opencode-monitor/{schema}@1",
        "range": report_range,
        "tz": tz,
        "rows": [_as_object(row) for row in rows],
        "totals": None if totals is None else _as_object(totals),
        **(more or {}),
        "warnings": list(warnings),
    }
    # In ASCII: what would steer a terminal arrives as an escape there, and as itself in a program.
    return json.dumps(document, indent=2)


def _as_object(row: Any) -> dict[str, Any]:
    items: dict[str, Any] = row if isinstance(row, dict) else dataclasses.asdict(row)
    return {name: as_json_value(value) for name, value in items.items()}


def console(*, stderr: bool = False) -> Console:
    """Return where tables go: as wide as the terminal, in plain text where it is none."""
    from rich.console import Console  # noqa: PLC0415 - reports only

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich's own would exit with 1

    stream = sys.stderr if stderr else sys.stdout
    # Where it is not told both, rich takes a dumb terminal (TERM=dumb) for 80 columns wide.
    width, height = shutil.get_terminal_size() if stream.isatty() else (120, 25)
    return Output(file=stream, width=width, height=height, highlight=False, soft_wrap=False, emoji=False, markup=False)


def table(headers: Sequence[tuple[str, str]]) -> Table:
    """Return an empty table.

    Args:
        headers: Title and alignment (`left` or `right`) of each column.
    """
    from rich import box  # noqa: PLC0415 - reports only
    from rich.table import Table  # noqa: PLC0415 - reports only

    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for title, justify in headers:
        result.add_column(title, justify="right" if justify == "right" else "left", overflow="ellipsis", no_wrap=True)
    return result


def note(message: str, *, quiet: bool = False) -> None:
    """Print a remark to standard error, apart from the data."""
    if not quiet:
        click.echo(message, err=True)
