"""The command line in the test's own process, or in one of its own, with what it wrote and the code it ended with."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from opencode_monitor.cli.app import main

PROGRAM = (sys.executable, "-c", "from opencode_monitor.cli.app import main; main()")
"""The program as a process of its own, from the start of Python on."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def error(self) -> dict[str, str]:
        """The one JSON object on standard error."""
        error: dict[str, str] = json.loads(self.stderr)["error"]
        return error


def run(*arguments: object) -> Outcome:
    """Run one command; an exception that is not told as an error fails the test."""
    stdout, stderr = io.StringIO(), io.StringIO()
    exit_code: object = None
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            exit_code = exit_.code
    assert isinstance(exit_code, int)
    return Outcome(exit_code, stdout.getvalue(), stderr.getvalue())


def run_program(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command as a process of its own, its output in pipes, with some variables added to the environment."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)], env={**os.environ, **environment}, capture_output=True, text=True, encoding="utf-8", check=False
    )
