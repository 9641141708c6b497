"""Measure how much CPU time the program takes to say what a command is for, and to print its status line.

    python benchmarks/start.py [--runs 5] [--slowest 5]

Each command is run as a process of its own with `--help`, and beside it `statusline`, on what an import of a made store left. The least of
the runs counts: what is above it, something else took. The budget of each is 150 ms of CPU; `python` is the interpreter alone, `click` with
the library of the command line. Ends with 1 where something is over.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from opencode_monitor.cli.app import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

_BUDGET_MS = 150.0
_PROGRAM = (sys.executable, "-m", "opencode_monitor")


def _commands(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, *path, name)


def _cpu_ms(command: tuple[str, ...], environment: dict[str, str]) -> float:
    """Run a command to its end, and return what it took of the processor."""
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def _main() -> None:
    parser = argparse.ArgumentParser(description="Measure the CPU time of --help and statusline.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slowest", type=int, default=5, help="how many commands to show")
    options = parser.parse_args()
    helps = {" ".join((*path, "--help")): (*_PROGRAM, *path, "--help") for path in _commands(cli)}
    with tempfile.TemporaryDirectory(prefix="opencode-monitor-bench-") as directory:
        environment = {"XDG_CACHE_HOME": directory, "TZ": "UTC"}
        store, database = str(Path(directory, "opencode")), str(Path(directory, "monitor.duckdb"))
        _cpu_ms((sys.executable, str(Path(__file__).with_name("make_store.py")), store, "--calls", "200"), environment)
        _cpu_ms((*_PROGRAM, "--db", database, "import", store), environment)
        commands = {
            "python": (sys.executable, "-c", "pass"),
            "click": (sys.executable, "-c", "import click"),
            "statusline": (*_PROGRAM, "--db", database, "statusline"),
            **helps,
        }
        least = dict.fromkeys(commands, float("inf"))
        for _ in range(options.runs):
            for name, command in commands.items():
                least[name] = min(least[name], _cpu_ms(command, environment))
    shown = sorted(helps, key=lambda name: -least[name])[: options.slowest]
    print(f"{'':24}{'CPU ms':>8}   least of {options.runs}; the {len(shown)} slowest of {len(helps)} with --help")
    for name in ("python", "click", "statusline", *shown):
        print(f"{name:24}{least[name]:>8.0f}")
    over = [name for name in ("statusline", *helps) if least[name] > _BUDGET_MS]
    if over:
        sys.exit(f"over {_BUDGET_MS:g} ms: {', '.join(over)}")


if __name__ == "__main__":
    _main()
