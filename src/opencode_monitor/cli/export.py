"""Rows as files: export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from opencode_monitor.cli.context import State, now, range_options
from opencode_monitor.cli.ranges import resolve_range, to_utc
from opencode_monitor.cli.render import note
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from opencode_monitor.cli.ranges import ReportRange


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--to", "file", type=click.Path(path_type=Path), required=True, metavar="FILE", help="What to write: .csv, .jsonl, .parquet.")
@range_options
@click.option("--redact", is_flag=True, help="Leave out prompts, code and output, and hash paths.")
@click.pass_obj
def export(state: State, name: str, file: Path, since: str | None, until: str | None, last: str | None, redact: bool) -> None:
    """Write rows to FILE for other programs.

    NAME is daily (what each day cost), focus (FOCUS 1.2, for FinOps tools), or a table: sessions, messages, parts, tool_calls and others.
    All time unless told otherwise. The file is readable by you alone, as it may hold prompts and code.
    """
    from opencode_monitor.exports.files import format_of, write_statement  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.exports.tables import TABLES, table_statement  # noqa: PLC0415 - as above

    format_of(file)
    moment = now()
    # Rows of FOCUS are days of UTC, and its fees months: days of another zone would cut both in two.
    zone = ZoneInfo("UTC") if name == "focus" else state.zone
    chosen = resolve_range(since=since, until=until, last=last, tz=zone, now=moment, default_last="all")
    if name in ("daily", "focus"):
        count = _write_sums(state, name, file, chosen, redact=redact)
    elif name in TABLES:
        statement = table_statement(name, start=to_utc(chosen.start), end=to_utc(chosen.end), redact=redact)
        with state.sessions()() as session:
            count = write_statement(session.connection(), statement, file)
    else:
        raise UsageError(f"nothing is called {name!r}.", hint=f"Use one of: daily, focus, {', '.join(TABLES)}.")
    note(f"Wrote {count:,} {'row' if count == 1 else 'rows'} to {file} ({chosen.describe()}, {chosen.tz}).", quiet=state.quiet)


def _write_sums(state: State, name: str, file: Path, chosen: ReportRange, *, redact: bool) -> int:
    from opencode_monitor.exports.daily import daily_rows  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.exports.files import write_rows  # noqa: PLC0415 - as above
    from opencode_monitor.exports.focus import focus_rows  # noqa: PLC0415 - as above
    from opencode_monitor.repositories import TimeRange  # noqa: PLC0415 - as above

    time_range = TimeRange(to_utc(chosen.start), to_utc(chosen.end))
    rows: list[tuple[Any, ...]]
    with state.sessions()() as session:
        if name == "focus":
            columns, rows = focus_rows(session, time_range, now=now(), tz=state.zone, redact=redact)
        else:
            columns, rows = daily_rows(session, time_range, tz=state.zone)
    return write_rows(columns, [rows], file)
