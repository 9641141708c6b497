"""The root command: global options, and errors turned into exit codes."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from opencode_monitor._version import __version__
from opencode_monitor.cli.anomalies import anomalies
from opencode_monitor.cli.attribution import files, parts, tools
from opencode_monitor.cli.billing import adjust, billing
from opencode_monitor.cli.budget import budget
from opencode_monitor.cli.carried import carried
from opencode_monitor.cli.completion import completion
from opencode_monitor.cli.context import State
from opencode_monitor.cli.cost import cost
from opencode_monitor.cli.database import db
from opencode_monitor.cli.doctor import doctor
from opencode_monitor.cli.export import export
from opencode_monitor.cli.failures import errors
from opencode_monitor.cli.forecast import forecast
from opencode_monitor.cli.importing import demo, import_
from opencode_monitor.cli.message import message, part
from opencode_monitor.cli.metrics import metrics
from opencode_monitor.cli.pricing import pricing
from opencode_monitor.cli.render import plain
from opencode_monitor.cli.reports import agents, by, daily, models, monthly, projects, weekly
from opencode_monitor.cli.session import session
from opencode_monitor.cli.sessions import sessions
from opencode_monitor.cli.statusline import statusline
from opencode_monitor.cli.trend import trend
from opencode_monitor.cli.unrecorded import unrecorded
from opencode_monitor.cli.watch import watch
from opencode_monitor.errors import OpencodeMonitorError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "opencode-monitor"
_INTERRUPTED = 130
# The backspace keeps click from re-wrapping the lines below it.
_HELP = """What OpenCode sessions cost, per day, model and session.

\b
First steps:
  opencode-monitor import     read OpenCode's data from where it keeps it
  opencode-monitor daily      what each day cost
  opencode-monitor demo       the same on a small sample
"""


class _Commands(click.Group):
    """The root group; click would end a command whose reader has left the pipe as a failure."""

    def invoke(self, ctx: click.Context) -> object:
        """Run a command, and end it well where nobody reads on."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}, help=_HELP)
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
@click.option("-q", "--quiet", is_flag=True, help="Leave out remarks on standard error.")
@click.version_option(__version__, prog_name=PROGRAM)
@click.pass_context
def cli(context: click.Context, database: str | None, tz: str | None, wait: str, quiet: bool) -> None:
    """Keep the global options, and without a command show the days or the first steps."""
    context.obj = State(database=database, tz=tz, wait=wait, quiet=quiet)
    context.call_on_close(context.obj.close)
    if context.invoked_subcommand is None:
        if context.obj.database_exists():
            context.invoke(daily)
        else:
            click.echo("No database yet. Read OpenCode's data:  opencode-monitor import")
            click.echo("No OpenCode here? See a sample:         opencode-monitor demo")
            click.echo("All commands:                            opencode-monitor --help")


PERIODS = (daily, weekly, monthly, trend)
GROUPS = (models, agents, projects, by, tools, files, parts, errors)
SINGLE = (sessions, session, message, part, carried, unrecorded)
JUDGEMENTS = (anomalies, forecast, budget)
FOR_MACHINES = (export, metrics, statusline, completion)
UPKEEP = (pricing, cost, db, doctor)
for command in (import_, watch, demo, *PERIODS, *GROUPS, *SINGLE, *JUDGEMENTS, *FOR_MACHINES, *UPKEEP):
    cli.add_command(command)
for command in (adjust, billing):
    pricing.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code: 0 done, 1 failed, 2 usage, 3 found something, 4 busy, 5 schema, 130 interrupted.

    Args:
        arguments: Instead of those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Abort:
        click.echo("interrupted; what was finished is kept, run the command again to go on", err=True)
        sys.exit(_INTERRUPTED)
    except click.ClickException as error:
        _fail(arguments, "usage", error.format_message(), error.exit_code)
    except OpencodeMonitorError as error:
        _fail(arguments, error.code, str(error), error.exit_code)
    except OSError as error:
        _fail(arguments, "io", f"{error.filename or 'input/output'}: {error.strerror or error}", 1)
    except Exception as error:
        if not _is_database_error(error):
            raise
        _fail(arguments, "database_failed", f"the database failed: {str(error).partition(chr(10))[0]}", 1)


def _is_database_error(error: Exception) -> bool:
    """Tell whether an error came from SQLAlchemy or a driver, without importing them for it."""
    return any(kind.__module__.partition(".")[0] in ("sqlalchemy", "duckdb", "_duckdb", "psycopg") for kind in type(error).__mro__)


def _fail(arguments: Sequence[str], code: str, message: str, exit_code: int) -> None:
    if "--json" in arguments:
        click.echo(json.dumps({"error": {"code": code, "message": message}}), err=True)
    else:
        # Some messages quote what is stored: an id, a path.
        click.echo(f"{PROGRAM}: error: {plain(message)}", err=True)
    sys.exit(exit_code)
