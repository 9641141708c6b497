"""Follow OpenCode's data as it grows: watch."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

import click

from opencode_monitor.cli.importing import lost_readers_line, prepare_database, read_surroundings, stores_texts
from opencode_monitor.cli.render import PROGRAM, note, plain
from opencode_monitor.cli.statusline import leave_sums
from opencode_monitor.errors import DatabaseBusyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from zoneinfo import ZoneInfo

    from opencode_monitor.cli.context import State
    from opencode_monitor.ingest.watch import WatchState

_BUSY_SECONDS = 1.0
"""How long one try waits for another process; the watch tries until it gets its turn."""
_WRITTEN_ANEW = "\r\x1b[K"  # what a terminal's line begins with that takes the place of the one before
_USUAL_WIDTH = 80  # where a terminal does not say how wide it is


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--poll", is_flag=True, help="Look at the files twice a second: for network drives, which send no notices.")
@click.pass_obj
def watch(state: State, paths: tuple[Path, ...], poll: bool) -> None:
    """Import what OpenCode writes, within two seconds, until stopped.

    PATH is as for `import`; what is not there yet is waited for. Reports run meanwhile: the database is held only while something is
    written, and another process that holds it is waited for. Ctrl-C ends it with exit code 130, SIGTERM with 0; nothing is lost either way.
    """
    from threading import Event  # noqa: PLC0415 - heavy imports stay inside commands

    from opencode_monitor.db.engine import create_database_engine, session_factory  # noqa: PLC0415 - as above
    from opencode_monitor.ingest.readers import default_jobs  # noqa: PLC0415 - as above
    from opencode_monitor.ingest.watch import Watcher, WatchStopped  # noqa: PLC0415 - as above
    from opencode_monitor.pricing.opencode_cache import find_cache  # noqa: PLC0415 - as above

    prepare_database(state)
    engine = create_database_engine(state.database_url, wait_seconds=_BUSY_SECONDS, loading=True)
    larger = create_database_engine(state.database_url, wait_seconds=_BUSY_SECONDS)
    state.engines.extend((engine, larger))
    stop = Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    show = shown_states(state.zone, is_terminal=is_terminal, quiet=state.quiet)

    def tell(now: WatchState) -> None:
        show(now)
        if now.last is not None:
            with suppress(DatabaseBusyError):  # the next import leaves them
                leave_sums(state, session_factory(engine))

    with_texts = stores_texts()
    before = signal.signal(signal.SIGTERM, end)
    try:
        Watcher(
            engine,
            paths,
            os.environ,
            stop,
            tell,
            poll=poll,
            models_cache=lambda: find_cache(os.environ),
            with_texts=with_texts,
            surroundings=read_surroundings(),
            jobs=default_jobs(with_texts=with_texts),
            larger=larger,
        ).run()
    except WatchStopped:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
        if is_terminal and not state.quiet:
            click.echo(err=True)


def shown_states(zone: ZoneInfo, *, is_terminal: bool, quiet: bool) -> Callable[[WatchState], None]:
    """Return what shows each state: in one line that is written anew on a terminal, in a line each elsewhere.

    That processes which were to read did not is said once: they will the next time, or never.

    Args:
        zone: Whose clock times are of.
        is_terminal: Whether standard error is one.
        quiet: Show nothing.
    """
    has_lost = False

    def show(state: WatchState) -> None:
        nonlocal has_lost
        if quiet:
            return
        if state.last is not None and state.last.lost_readers and not has_lost:
            has_lost = True
            note(f"{_WRITTEN_ANEW if is_terminal else ''}{PROGRAM}: warning: {plain(lost_readers_line(state.last.lost_readers))}")
        if is_terminal:
            width = os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_WIDTH
            line = plain(status_line(state, zone), limit=max(width - 1, 1))
            click.echo(f"{_WRITTEN_ANEW}{line}", nl=False, err=True)
        else:
            note(plain(log_line(state)))

    return show


def status_line(state: WatchState, zone: ZoneInfo) -> str:
    """Say in one line what a watch is doing and has done.

    Args:
        state: What it is doing.
        zone: Whose clock the time is of.
    """
    done = f"{state.new:,} new, {state.changed:,} changed"
    when = f", last at {state.at.replace(tzinfo=state.at.tzinfo or UTC).astimezone(zone):%H:%M:%S}" if state.at else ""
    doing = f"waiting: {state.problem}" if state.problem else f"watching {_sources(state)}"
    return f"{doing} · {done}{when}"


def log_line(state: WatchState) -> str:
    """Say in one line what has just happened.

    Args:
        state: What a watch is doing now.
    """
    if state.last is not None:
        counts = state.last.counts
        skipped = sum(state.last.skipped.values())
        return f"imported {counts.new:,} new, {counts.changed:,} changed" + (f", {skipped:,} skipped" if skipped else "")
    return f"waiting: {state.problem}" if state.problem else f"watching {_sources(state)}"


def _sources(state: WatchState) -> str:
    return f"{state.sources} {'source' if state.sources == 1 else 'sources'}"
