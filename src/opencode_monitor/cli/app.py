"""The root command: global options, and errors turned into exit codes."""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import sys
from typing import TYPE_CHECKING

import click

from opencode_monitor._version import __version__
from opencode_monitor.cli.commands import HOMES, Commands, Group
from opencode_monitor.cli.context import State
from opencode_monitor.cli.driver_errors import told
from opencode_monitor.cli.render import PROGRAM, complain
from opencode_monitor.errors import INTERRUPTED, DeclinedError, OpencodeMonitorError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALLOCATIONS_BETWEEN_COLLECTIONS = 20_000
# The backspace keeps click from re-wrapping the lines below it.
_HELP = """What OpenCode sessions cost, per day, model and session.

\b
First steps:
  opencode-monitor import     read OpenCode's data from where it keeps it
  opencode-monitor daily      what each day cost
  opencode-monitor demo       the same on a small sample
"""


class _Root(Group):
    """The root group; click would end a command whose reader has left the pipe as a failure."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command, and end it well where nobody reads on."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


@click.group(
    cls=_Root,
    commands=Commands(HOMES),
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=_HELP,
)
@click.option(
    "--db",
    "database",
    metavar="URL|PATH",
    help="The database; default: $OPENCODE_MONITOR_DATABASE_URL, else a file in the user's data directory.",
)
@click.option(
    "--tz",
    metavar="ZONE",
    help="The time zone whose days count, such as Europe/Berlin; default: $OPENCODE_MONITOR_TZ, else the system's.",
)
@click.option(
    "--wait",
    default="30s",
    show_default=True,
    metavar="TIME",
    help="How long to wait while another process holds the database.",
)
@click.option(
    "--config",
    metavar="FILE",
    help="The configuration file; default: $OPENCODE_MONITOR_CONFIG, else config.toml in the user's configuration directory.",
)
@click.option("-q", "--quiet", is_flag=True, help="Leave out remarks on standard error.")
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def cli(context: click.Context, database: str | None, tz: str | None, wait: str, config: str | None, quiet: bool) -> None:
    """Keep the global options, and without a command show the days or the first steps."""
    context.obj = State(database=database, tz=tz, wait=wait, quiet=quiet, config=config)
    context.call_on_close(context.obj.close)
    if context.invoked_subcommand is None:
        if context.obj.database_exists():
            context.invoke(cli.commands["daily"])
        else:
            click.echo("No database yet. Read OpenCode's data:  opencode-monitor import")
            click.echo("No OpenCode here? See a sample:         opencode-monitor demo")
            click.echo("All commands:                            opencode-monitor --help")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code: 0 done, 1 failed, 2 usage, 3 found something, 4 busy, 5 schema, 130 interrupted.

    Args:
        arguments: Instead of those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _collect_seldom()
    try:
        result = cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Abort:
        click.echo("interrupted; what was finished is kept, run the command again to go on", err=True)
        sys.exit(INTERRUPTED)
    except DeclinedError as error:
        # An answer is no error to people.
        if _wants_json(arguments):
            _fail(arguments, error.code, error.lines, error.exit_code, hint=error.hint)
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        # Choices that it lists stand in lines of their own.
        _fail(arguments, "usage", [" ".join(error.format_message().split())], error.exit_code)
    except OpencodeMonitorError as error:
        _fail(arguments, error.code, error.lines, error.exit_code, hint=error.hint)
    except OSError as error:
        _fail(arguments, "io", [f"{error.filename or 'input/output'}: {error.strerror or error}"], 1)
    except Exception as error:
        failure = told(error)
        if failure is None:
            raise
        _fail(arguments, failure.code, failure.lines, failure.exit_code)


def _collect_seldom() -> None:
    """Keep Python from looking for garbage cycles again and again while modules load, and from looking through all of them at its exit.

    The last look takes a quarter of a report's time, and what it finds goes with the process anyway.
    """
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def _wants_json(arguments: Sequence[str]) -> bool:
    after_format = [following for option, following in itertools.pairwise(arguments) if option == "--format"]
    return "--json" in arguments or "--format=json" in arguments or "json" in after_format


def _fail(arguments: Sequence[str], code: str, lines: Sequence[str], exit_code: int, *, hint: str | None = None) -> None:
    complain(code, lines, hint=hint, as_json=_wants_json(arguments))
    sys.exit(exit_code)
