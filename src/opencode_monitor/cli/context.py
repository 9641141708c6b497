"""What the root command knows and every command needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import click

from opencode_monitor.cli.ranges import parse_duration, parse_zone
from opencode_monitor.errors import DeclinedError, SchemaError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Session, sessionmaker

    from opencode_monitor.metrics.measures import CostNumber

FOUND_SOMETHING = 3
"""The exit code of a command that finished and found something wrong."""

COST_TITLES = {
    "list": "list prices, USD; OpenCode's own figures: --cost reported",
    "reported": "as OpenCode stored it, USD; list prices: --cost list",
    "paid": "out of pocket by your statements, USD; list prices: --cost list",
}
"""What each of the three numbers is, for the head of a report."""

Command = TypeVar("Command", bound=Callable[..., Any])
Checked = TypeVar("Checked")


@dataclass(frozen=True, slots=True)
class State:
    """The global options, as they were given, the engines that were made by them, and the connections that were kept."""

    database: str | None
    tz: str | None
    wait: str
    quiet: bool
    config: str | None = None
    engines: list[Engine] = field(default_factory=list)
    kept: list[Connection] = field(default_factory=list)

    @property
    def database_url(self) -> str:
        """The database's URL."""
        from opencode_monitor.settings import database_url_of, load_settings  # noqa: PLC0415 - pydantic takes 0.1 s

        return database_url_of(self.database) if self.database else load_settings().database_url

    @property
    def database_file(self) -> Path | None:
        """The DuckDB file, or None on a server."""
        url = self.database_url
        return Path(unquote(url.removeprefix("duckdb:///").partition("?")[0])) if url.startswith("duckdb:///") else None

    @property
    def wait_seconds(self) -> float:
        """How long to wait for the database's lock."""
        return parse_duration(self.wait)

    @property
    def zone(self) -> ZoneInfo:
        """The time zone whose days count."""
        from opencode_monitor.settings import load_settings  # noqa: PLC0415 - pydantic takes 0.1 s

        name = self.tz or load_settings().tz
        return parse_zone(name) if name else system_zone()

    def cost_number(self, chosen: str | None) -> CostNumber:
        """Which of the three numbers a report shows: the one given, else that of the settings.

        Args:
            chosen: The value of `--cost`.

        Raises:
            UsageError: The settings name none of the three.
        """
        from opencode_monitor.metrics.measures import CostNumber  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
        from opencode_monitor.settings import load_settings  # noqa: PLC0415 - pydantic takes 0.1 s

        name = chosen or load_settings().cost
        if name not in list(CostNumber):
            raise UsageError(f"$OPENCODE_MONITOR_COST is {name!r}.", hint=f"Use {', '.join(CostNumber)}.")
        return CostNumber(name)

    def database_exists(self) -> bool:
        """Tell whether there is something to read; a server is taken to be there."""
        return self.database_file is None or self.database_file.exists()

    def engine(self, *, read_only: bool = False, loading: bool = False) -> Engine:
        """Return an engine for the database; for what the two mean, see `create_database_engine`."""
        from opencode_monitor.db.engine import create_database_engine  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

        engine = create_database_engine(self.database_url, wait_seconds=self.wait_seconds, read_only=read_only, loading=loading)
        self.engines.append(engine)
        return engine

    def sessions(self, *, read_only: bool = True) -> sessionmaker[Session]:
        """Return a session factory on the database.

        Raises:
            SchemaError: There is none, or it is not at head.
        """
        from opencode_monitor.db.engine import session_factory  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
        from opencode_monitor.db.revision import require_head  # noqa: PLC0415 - as above

        if not self.database_exists():
            raise SchemaError(f"no database at {self.database_file}.", hint="Run: opencode-monitor db upgrade && opencode-monitor import")
        engine = self.engine(read_only=read_only)
        self.check(engine, require_head)
        return session_factory(engine)

    def check(self, engine: Engine, ask: Callable[[Connection], Checked]) -> Checked:
        """Ask a database something before the work begins.

        DuckDB takes 20 ms to open a file, so what was opened to ask stays open until the work's own connection goes back; no longer, as it
        would keep others from the database while this command prints.

        Args:
            engine: The database; of its connections, the next is the work's.
            ask: What to ask; what it raises closes the file.

        Returns:
            The answer.
        """
        from sqlalchemy import event  # noqa: PLC0415 - SQLAlchemy takes 0.5 s

        connection = engine.connect()
        try:
            answer = ask(connection)
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        if engine.dialect.name == "duckdb":
            self.kept.append(connection)
            event.listen(engine, "checkin", lambda *_: self.let_go(), once=True)
        else:
            connection.close()
        return answer

    def let_go(self) -> None:
        """Close the files that `check` kept open."""
        while self.kept:
            self.kept.pop().close()

    def close(self) -> None:
        """Close what was kept open for the next statement."""
        self.let_go()
        for engine in self.engines:
            engine.dispose()


def system_zone() -> ZoneInfo:
    """Return the machine's own zone; UTC where its name cannot be told."""
    import os  # noqa: PLC0415 - used here alone

    name = os.environ.get("TZ", "").removeprefix(":")
    if not name:
        try:
            name = str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2]
        except OSError:
            name = ""
    try:
        return ZoneInfo(name) if name else ZoneInfo("UTC")
    except (ValueError, OSError):
        return ZoneInfo("UTC")


def now() -> datetime:
    """Return the current time, aware."""
    return datetime.now(UTC)


def confirm(question: str) -> None:
    """Ask on standard error, and go on after a yes only.

    Args:
        question: What to ask.

    Raises:
        DeclinedError: The answer was no, Ctrl-C, or the end of the input.
    """
    try:
        is_agreed = click.confirm(question, err=True)
    except click.Abort as error:
        # The line of the question has no end yet.
        click.echo(err=True)
        # Click has one exception for both.
        if isinstance(error.__context__, KeyboardInterrupt):
            raise DeclinedError(is_interrupted=True) from None
        raise DeclinedError(hint="Where nobody can answer: --yes") from None
    if not is_agreed:
        raise DeclinedError


def range_options(command: Command) -> Command:
    """Add `--since`, `--until` and `--last`."""
    for option in (
        click.option(
            "--last",
            metavar="LENGTH",
            help="30d, 12w, 3m, 1y, mtd, ytd or all; today is one of the days. Default: 30d.",
        ),
        click.option("--until", metavar="WHEN", help="The last day, included; words as for --since."),
        click.option("--since", metavar="WHEN", help="The first day: 2026-10-01, 7d (ago), today, yesterday, monday."),
    ):
        command = option(command)
    return command


cost_option = click.option(
    "--cost",
    "cost",
    type=click.Choice(["list", "reported", "paid"]),
    help="Which number to show: list price, OpenCode's own, or out of pocket. Default: $OPENCODE_MONITOR_COST, else list.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
