"""Read OpenCode's data: import, demo."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.context import State, json_option, now
from opencode_monitor.cli.metrics import run_carried
from opencode_monitor.cli.ranges import parse_when
from opencode_monitor.cli.render import complain, console, count_of, envelope, note, plain
from opencode_monitor.cli.statusline import leave_sums
from opencode_monitor.errors import DatabaseBusyError, SourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, sessionmaker

    from opencode_monitor.ingest.pipeline import ImportSummary, Progress, Surroundings
    from opencode_monitor.sources.discover import SourceLocation


_NOT_JSON = "not valid JSON"
_UNREADABLE = frozenset({"empty file", "not UTF-8", _NOT_JSON, "not a JSON object"})
"""How the reasons begin of records whose text is no JSON object."""

_REASONS_SHOWN = 3


@click.command("import")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--since", metavar="WHEN", help="Leave out sessions that did not change after this.")
@click.option("--full", is_flag=True, help="Read unchanged sessions too.")
@click.option("--carried", is_flag=True, help="Then bring carried costs up to date, as `metrics carried` does.")
@click.option(
    "--content/--no-content",
    "with_texts",
    default=None,
    help="Store texts too, or only names, times, tokens, costs and sizes. [default: $OPENCODE_MONITOR_NO_CONTENT, else with]",
)
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(0, 64),
    default=None,
    help="How many processes read a large store while this one writes; 0 for none. [default: 1, or 2 without content]",
)
@click.option("--dry-run", is_flag=True, help="Only list what would be read; exit 1 if there is nothing.")
@json_option
@click.pass_obj
def import_(
    state: State,
    paths: tuple[Path, ...],
    since: str | None,
    full: bool,
    carried: bool,
    with_texts: bool | None,
    jobs: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Import what is new or changed in OpenCode's data.

    PATH is a data directory, its storage directory, one project's tree of OpenCode 0.0 to 0.5, a database file, or a file that
    `opencode export` wrote; several may be given. Without any, the data is looked for where OpenCode keeps it: $OPENCODE_DB,
    $OPENCODE_DATA_DIR, $XDG_DATA_HOME/opencode, ~/.local/share/opencode. It is only read, never written. Where a source is damaged, the
    rest of it and all others are loaded, and the exit code is 1; a PATH without such data is refused before anything is read.
    """
    from opencode_monitor.sources.discover import find_all_sources  # noqa: PLC0415 - heavy imports stay inside commands

    locations = find_all_sources(paths, os.environ)
    if dry_run:
        for location in locations:
            click.echo(f"{location.kind:12} {plain(str(location.path))}")
        return 0
    since_moment = None if since is None else parse_when(since, tz=state.zone, now=now())
    prepare_database(state)
    if with_texts is None:
        with_texts = stores_texts()
    summary = run_import(state, locations, full=full, since=since_moment, with_texts=with_texts, jobs=jobs)
    try:
        leave_sums(state, state.sessions())
    except DatabaseBusyError as error:
        # The import is done, and whoever has the database now may take long.
        note(f"no sums were left for statusline: {error}", quiet=state.quiet)
    if carried:
        note(run_carried(state), quiet=state.quiet)
    if as_json:
        click.echo(envelope("import", rows=[], totals=_as_counts(summary) | {"content": with_texts}, warnings=list(_warnings(summary))))
    else:
        _print_summary(state, summary)
        if not with_texts:
            note("Texts were left out (--no-content); what was stored before stays.", quiet=state.quiet)
    for problem in summary.problems.values():
        complain(SourceError.code, [problem], as_json=as_json)
    return SourceError.exit_code if summary.problems else 0


@click.command()
@click.pass_context
def demo(context: click.Context) -> None:
    """Show the reports on a small sample that is made for it, in a database of its own."""
    from opencode_monitor.cli.reports import daily, models  # noqa: PLC0415 - an import shows none of them
    from opencode_monitor.settings import database_url_of, demo_directory  # noqa: PLC0415 - heavy imports stay inside commands
    from opencode_monitor.sources.demo import write_demo_store  # noqa: PLC0415 - as above
    from opencode_monitor.sources.discover import find_sources  # noqa: PLC0415 - as above

    state: State = context.obj
    if state.database is not None:
        raise UsageError("demo has a database of its own, made anew each time.", hint="Leave --db out.")
    directory = demo_directory()
    store = directory / "opencode"
    write_demo_store(store, now=now())
    database = directory / "demo.duckdb"
    # Made anew each time: the sample ends today.
    for file in (database, database.with_name(database.name + ".wal")):
        file.unlink(missing_ok=True)
    context.obj = replace(state, database=database_url_of(database))
    prepare_database(context.obj)
    run_import(context.obj, find_sources(store, os.environ))
    click.echo("A sample that this command made, not your data.")
    context.invoke(daily)
    click.echo()
    context.invoke(models)
    note(f"More of it: opencode-monitor --db {database} sessions", quiet=state.quiet)


def prepare_database(state: State) -> None:
    """Create an absent or empty database, and refuse one that is not at head.

    Raises:
        SchemaError: It is behind or ahead of this program.
    """
    writing_sessions(state)
    state.let_go()


def writing_sessions(state: State) -> sessionmaker[Session]:
    """Return a factory of sessions to write with, on a database that is made where it is absent or empty.

    Raises:
        SchemaError: It is behind or ahead of this program.
    """
    from opencode_monitor.db.engine import session_factory  # noqa: PLC0415 - heavy imports stay inside commands
    from opencode_monitor.db.revision import current_revision, require_head  # noqa: PLC0415 - as above

    def ask(connection: Connection) -> bool:
        is_empty = current_revision(connection) is None
        if not is_empty:
            require_head(connection)
        return is_empty

    engine = state.engine()
    # A file that is not there need not be made to be found empty.
    if not state.database_exists() or state.check(engine, ask):
        from opencode_monitor.db.migrate import upgrade  # noqa: PLC0415 - Alembic takes a second

        state.let_go()
        upgrade(state.database_url, wait_seconds=state.wait_seconds)
    return session_factory(engine)


def stores_texts() -> bool:
    """Tell whether the settings have imports store texts."""
    from opencode_monitor.settings import load_settings  # noqa: PLC0415 - pydantic takes 0.1 s

    return not load_settings().no_content


def run_import(
    state: State,
    locations: list[SourceLocation],
    *,
    full: bool = False,
    since: object = None,
    with_texts: bool = True,
    jobs: int | None = None,
) -> ImportSummary:
    """Import with a progress bar on a terminal."""
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - heavy imports stay inside commands

    from opencode_monitor.db.engine import is_out_of_memory  # noqa: PLC0415 - as above
    from opencode_monitor.ingest.pipeline import import_sources  # noqa: PLC0415 - as above
    from opencode_monitor.ingest.readers import default_jobs  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.opencode_cache import find_cache  # noqa: PLC0415 - as above

    with _progress_bar(is_shown=not state.quiet and sys.stderr.isatty()) as progress:

        def load(engine: Engine) -> ImportSummary:
            return import_sources(
                engine,
                locations,
                full=full,
                since=since,  # type: ignore[arg-type] # a datetime or None
                models_cache=find_cache(os.environ),
                with_texts=with_texts,
                surroundings=read_surroundings(),
                jobs=default_jobs(with_texts=with_texts) if jobs is None else jobs,
                progress=progress,
            )

        try:
            return load(state.engine(loading=True))
        except DBAPIError as error:
            if not is_out_of_memory(error):
                raise
            # Rather more memory than no import; what was written until then stays, and is not read again.
            return load(state.engine())


@contextmanager
def _progress_bar(*, is_shown: bool) -> Iterator[Progress | None]:
    """Show how far an import is."""
    if not is_shown:
        yield None
        return
    from rich import progress  # noqa: PLC0415 - heavy imports stay inside commands

    columns = (progress.TextColumn("Importing"), progress.BarColumn(), progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("import", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def read_surroundings() -> Surroundings:
    """Read what the settings and OpenCode's configuration say beyond its data.

    Raises:
        UsageError: A tool is declared with another operation than there are.
    """
    from opencode_monitor.ingest.file_operations import OPERATIONS  # noqa: PLC0415 - heavy imports stay inside commands
    from opencode_monitor.ingest.pipeline import Surroundings  # noqa: PLC0415 - as above
    from opencode_monitor.settings import load_settings  # noqa: PLC0415 - as above
    from opencode_monitor.sources.opencode_config import configured_servers  # noqa: PLC0415 - as above

    settings = load_settings()
    file_tools = {}
    for stated in filter(None, map(str.strip, settings.file_tools.split(","))):
        tool, _, operation = stated.partition("=")
        if operation.strip() not in OPERATIONS:
            raise UsageError(
                f"$OPENCODE_MONITOR_FILE_TOOLS has {stated!r}.", hint=f"Use tool=OPERATION with one of {', '.join(OPERATIONS)}."
            )
        file_tools[tool.strip()] = operation.strip()
    named = frozenset(filter(None, map(str.strip, settings.mcp_servers.split(","))))
    return Surroundings(settings.working_trees, named | configured_servers(os.environ), file_tools)


def _as_counts(summary: ImportSummary) -> dict[str, object]:
    return {
        "sources": summary.sources,
        "read": summary.read,
        "new": summary.counts.new,
        "changed": summary.counts.changed,
        "unchanged": summary.counts.unchanged,
        "skipped": sum(summary.skipped.values()),
        "skipped_reasons": dict(summary.skipped.most_common()),
        "issues": summary.issues,
        "lost_readers": dict(summary.lost_readers.most_common()),
    }


def _print_summary(state: State, summary: ImportSummary) -> None:
    counts = summary.counts
    click.echo(
        f"Read {summary.read:,} records of {summary.sources} {'source' if summary.sources == 1 else 'sources'}: "
        f"{counts.new:,} new, {counts.changed:,} changed, {counts.unchanged:,} unchanged, {sum(summary.skipped.values()):,} skipped."
    )
    said: Counter[str] = Counter()
    for reason, number in summary.skipped.items():
        # Where a text stops being JSON is told of each record in the list: here it would be a line for each.
        said[_NOT_JSON if reason.startswith(_NOT_JSON) else reason] += number
    for reason, number in said.most_common():
        click.echo(f"  skipped {number:,}: {plain(reason)}")
    for text in _warnings(summary):
        note(f"opencode-monitor: warning: {plain(text)}", quiet=state.quiet)


def lost_readers_line(lost: Mapping[str, int]) -> str:
    """Say in one line that processes which were to read did not, what that meant, and what to do.

    Args:
        lost: How they ended, and how many.
    """
    ways = ", ".join(how if number == 1 else f"{number:,} times {how}" for how, number in lost.items())
    return (
        f"lost {count_of(sum(lost.values()), 'reading process', 'reading processes')} ({ways}): the import read the rest itself, slower,"
        " and nothing is missing. If that happens each time, memory is short or the installation broken; import --jobs 0 starts none."
    )


def _warnings(summary: ImportSummary) -> Iterator[str]:
    if summary.lost_readers:
        yield lost_readers_line(summary.lost_readers)
    skipped = sum(summary.skipped.values())
    others = summary.issues - skipped
    where = "List: opencode-monitor doctor --show skipped"
    if skipped:
        yield f"skipped {skipped:,} of {summary.read + skipped:,} records ({_reasons(summary)}). {where}"
    if others:
        yield f"{others:,} {'record is' if others == 1 else 'records are'} loaded as far as possible. {where}"


def _reasons(summary: ImportSummary) -> str:
    """Say why records were skipped in a few words; each one's own reason, with the place in its text, is in the list."""
    kinds: Counter[str] = Counter()
    for reason, number in summary.skipped.items():
        kind = re.split("[:;]", reason)[0]
        kinds["unreadable JSON" if kind in _UNREADABLE else kind] += number
    if len(kinds) == 1:
        return next(iter(kinds))
    named = [f"{number:,} {kind}" for kind, number in kinds.most_common(_REASONS_SHOWN)]
    return ", ".join([*named, *(["others"] if len(kinds) > _REASONS_SHOWN else [])])
