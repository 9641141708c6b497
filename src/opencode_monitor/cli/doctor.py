"""Say whether everything is in order, and what to do where it is not."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from opencode_monitor._version import __version__
from opencode_monitor.cli.context import FOUND_SOMETHING, State, json_option
from opencode_monitor.cli.render import count_of, envelope, plain
from opencode_monitor.errors import DatabaseError, SchemaError, SourceError

if TYPE_CHECKING:
    from pathlib import Path

_OWNER_ONLY = 0o077
_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `ok`, `warn` or `FAIL`, what was seen, and what to run."""

    level: str
    text: str
    remedy: str = ""


@click.command()
@click.option("--show", type=click.Choice(["skipped"]), help="List the records that could not be read as they stand.")
@json_option
@click.pass_obj
def doctor(state: State, show: str | None, as_json: bool) -> int:
    """Check the program, the database and OpenCode's data; exit 3 if something fails."""
    if show:
        _show_skipped(state, as_json=as_json)
        return 0
    findings = [*_check_program(), *_check_sources(), *_check_database(state)]
    if as_json:
        click.echo(envelope("doctor", rows=findings))
    else:
        for finding in findings:
            remedy = f"   → {finding.remedy}" if finding.remedy else ""
            click.echo(f"{finding.level:5} {plain(finding.text)}{remedy}")
    return FOUND_SOMETHING if any(finding.level == "FAIL" for finding in findings) else 0


def _check_program() -> list[Finding]:
    import duckdb  # noqa: PLC0415 - takes 0.1 s

    return [Finding("ok", f"Python {platform.python_version()}, opencode-monitor {__version__}, duckdb {duckdb.__version__}")]


def _check_sources() -> list[Finding]:
    from opencode_monitor.sources.discover import find_sources  # noqa: PLC0415 - heavy imports stay inside commands

    try:
        return [Finding("ok", f"OpenCode data ({location.kind}): {location.path}") for location in find_sources(None, os.environ)]
    except SourceError as error:
        return [Finding("warn", str(error))]


def _check_database(state: State) -> list[Finding]:
    from opencode_monitor.db.engine import mask_url  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
    from opencode_monitor.repositories import ImportIssueRepository, PricingRepository  # noqa: PLC0415 - as above

    file = state.database_file
    where = str(file or mask_url(state.database_url))
    try:
        factory = state.sessions()
    except SchemaError as error:
        return [Finding("FAIL", str(error)), *_check_left_behind(file)]
    except DatabaseError as error:
        # Another process may hold it, and what it writes beside it is not left behind.
        return [Finding("FAIL", str(error))]
    with factory() as session:
        unpriced = PricingRepository(session).missing()
        issues = ImportIssueRepository(session)
        damaged = issues.sources()
        skipped = issues.count() - damaged
    findings = [Finding("ok", f"Database {where}, at head")]
    if file is not None:
        status = file.stat()
        findings[0] = Finding("ok", f"Database {where} ({status.st_size / _MEGABYTE:.1f} MB, mode {status.st_mode & 0o777:04o}), at head")
        if status.st_mode & _OWNER_ONLY:
            findings.append(Finding("warn", "others can read the database: it holds prompts and code", f"chmod 600 {file}"))
    findings += _check_left_behind(file)
    if unpriced:
        calls = sum(number for _, number in unpriced)
        findings.append(
            Finding(
                "warn",
                f"{count_of(len(unpriced), 'model')} without a price ({count_of(calls, 'call')})",
                "opencode-monitor pricing missing",
            )
        )
    else:
        findings.append(Finding("ok", "Every call has a price"))
    amiss = (
        (damaged, "source cannot be read whole", "sources cannot be read whole"),
        (skipped, "record is not as it should be", "records are not as they should be"),
    )
    findings += [
        Finding("warn", count_of(count, one, many), "opencode-monitor doctor --show skipped") for count, one, many in amiss if count
    ]
    return findings


def _check_left_behind(file: Path | None) -> list[Finding]:
    from opencode_monitor.db.files import left_behind  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    left = left_behind(file.resolve()) if file is not None else []
    if not left:
        return []
    sizes = ", ".join(f"{path} ({path.stat().st_size / _MEGABYTE:.1f} MB)" for path in left)
    return [Finding("warn", f"left by a process that was killed, and can be removed: {sizes}")]


def _show_skipped(state: State, *, as_json: bool) -> None:
    from opencode_monitor.repositories import ImportIssueRepository  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

    with state.sessions()() as session:
        rows = [
            {"source_id": issue.source_id, "record": issue.record, "reason": issue.reason}
            for issue in ImportIssueRepository(session).in_order()
        ]
    if as_json:
        click.echo(envelope("import-issues", rows=rows))
        return
    for row in rows:
        # What is said of a source names it.
        names_it = row["reason"].startswith(row["record"])
        click.echo(plain(row["reason"]) if names_it else f"{plain(row['record'])}: {plain(row['reason'])}")
    if not rows:
        click.echo("Every record was read as it stands.")
