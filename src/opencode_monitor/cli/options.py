"""The options that reports share: which time, whose calls, and where the answer goes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opencode_monitor.cli.context import Command, now, range_options
from opencode_monitor.cli.ranges import resolve_range
from opencode_monitor.cli.render import plain
from opencode_monitor.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.cli.context import State
    from opencode_monitor.cli.ranges import ReportRange
    from opencode_monitor.metrics.filters import Filters

_FILTERS = {
    "model": ("GLOB", 'Only calls of such a model: "anthropic/*", "claude-*".'),
    "provider": ("GLOB", "Only calls of such a provider."),
    "agent": ("GLOB", "Only calls of such an agent."),
    "project": ("GLOB", "Only calls in such a project, by its name or directory."),
    "session": ("ID", "Only calls of this session; the beginning of its id is enough."),
    "tool": ("GLOB", "Only parts that are calls of such a tool, with their share of each call."),
}
FORMATS = ("table", "json", "jsonl", "csv", "md")
"""How a report can be written."""

_SUFFIXES = {".json": "json", ".jsonl": "jsonl", ".csv": "csv", ".md": "md"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which time, and whose calls, in the words of the command line."""

    since: str | None = None
    until: str | None = None
    last: str | None = None
    patterns: dict[str, tuple[str, ...]]

    def resolve(self, state: State, default_last: str = "30d") -> ReportRange:
        """Return the range that is meant."""
        return resolve_range(since=self.since, until=self.until, last=self.last, tz=state.zone, now=now(), default_last=default_last)

    def filters(self, session: DatabaseSession) -> Filters:
        """Return whose calls count.

        Args:
            session: Where to look sessions up.

        Raises:
            NotFoundError: A session's id, or its beginning, names none or several.
            UsageError: A pattern is empty.
        """
        from opencode_monitor.metrics.filters import Filters  # noqa: PLC0415 - SQLAlchemy takes 0.5 s
        from opencode_monitor.repositories import SessionRepository  # noqa: PLC0415 - as above

        for name, patterns in self.patterns.items():
            if not all(patterns):
                raise UsageError(f"--{name} is empty. Leave it out to count everything.")
        find = SessionRepository(session).find
        sessions = tuple(find(prefix).session_id for prefix in self.patterns.get("session", ()))
        return Filters(**{**self.patterns, "session": sessions})

    def describe(self) -> str:
        """Say whose calls count, for the head of a report; nothing where all do."""
        return "".join(f" · {text}" for text in self._given())

    def describe_nothing(self, what: str, verb: str, report_range: ReportRange) -> str:
        """Say that nothing was found, and what to do: not to look further back where that was done, nor to import where a filter is why.

        Args:
            what: What there is none of, such as "No calls".
            verb: Its verb: "match" or "matches".
            report_range: What was looked at.
        """
        is_all, given = report_range.start is None, self._given()
        found = what if is_all else f"{what} in this range"
        if not given:
            return f"{found}. {'Run' if is_all else 'Look further back with --last all, or run'}: opencode-monitor import"
        said = f"{found} {verb} the filter: {plain(', '.join(given))}."
        if not is_all:
            said += " Look further back with --last all."
        short = next((plain(pattern) for pattern in self.patterns.get("model", ()) if "/" not in pattern), None)
        if short is not None:
            said += f" A model without a slash is what stands behind its provider; with one it is the whole name: {short}/*, or */{short}"
        return said

    def _given(self) -> list[str]:
        return [f"{name} {' or '.join(patterns)}" for name, patterns in self.patterns.items() if patterns]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How, and where to, a report is written.

    Attributes:
        format: One of `FORMATS`.
        file: A file instead of standard output.
        columns: Fields to write, by their name in JSON; None for all of the format's.
        has_header: Whether tables and CSV begin with a header.
    """

    format: str = "table"
    file: Path | None = None
    columns: tuple[str, ...] | None = None
    has_header: bool = True

    @property
    def is_table(self) -> bool:
        """Whether people read it: a table shows the first rows where nobody says how many."""
        return self.format in {"table", "md"}


def filter_options(*names: str, with_range: bool = True) -> Callable[[Command], Any]:
    """Return range options and filters; the command gets them as `asked`.

    Args:
        names: The filters that the report can answer; all where there are none.
        with_range: Whether it is about a range that the user chooses.
    """
    names = names or tuple(_FILTERS)

    def decorate(command: Command) -> Any:
        @functools.wraps(command)
        def wrapped(*args: Any, **values: Any) -> Any:
            patterns = {name: values.pop(f"only_{name}") for name in names}
            words = {word: values.pop(word, None) for word in ("since", "until", "last")}
            return command(*args, asked=Asked(**words, patterns=patterns), **values)

        decorated: Any = wrapped
        for name in reversed(names):
            metavar, text = _FILTERS[name]
            decorated = click.option(f"--{name}", f"only_{name}", multiple=True, metavar=metavar, help=f"{text} Repeatable.")(decorated)
        return range_options(decorated) if with_range else decorated

    return decorate


def output_options(command: Command) -> Command:
    """Add `--format`, `--json`, `-o`, `--columns` and `--no-header`; the command gets them as `output`."""

    @functools.wraps(command)
    def wrapped(
        *args: Any, chosen_format: str | None, as_json: bool, file: Path | None, columns: str | None, no_header: bool, **values: Any
    ) -> Any:
        if as_json and chosen_format not in {None, "json"}:
            raise UsageError(f"--json cannot be combined with --format {chosen_format}.", hint="Use one of the two.")
        names = None if columns is None else tuple(name.strip() for name in columns.split(","))
        twice = next((name for name in names or () if (names or ()).count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"--columns names {twice!r} twice.")
        by_name = _SUFFIXES.get(file.suffix.lower(), "table") if file else "table"
        output = Output(
            format="json" if as_json else chosen_format or by_name,
            file=file,
            columns=names,
            has_header=not no_header,
        )
        return command(*args, output=output, **values)

    decorated: Any = wrapped
    for option in (
        click.option("--no-header", is_flag=True, help="Leave the header of a table or of CSV out."),
        click.option("--columns", metavar="A,B,C", help="Only these fields, by their names in JSON, in this order."),
        click.option(
            "-o", "--output", "file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write here, for you alone."
        ),
        click.option("--json", "as_json", is_flag=True, help="The same as --format json: one object."),
        click.option(
            "--format",
            "chosen_format",
            type=click.Choice(FORMATS),
            help="How to write the report. Default: what the name of FILE ends in, else a table.",
        ),
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return] # click's options return what they are given
