from __future__ import annotations

import subprocess
import sys

import pytest

from commands import run, run_program


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o nosort -F"), ("zsh", "#compdef opencode-monitor"), ("fish", "complete --no-files")]
)
def test_completion_prints_the_script_of_the_shell(shell: str, sign: str) -> None:
    outcome = run("completion", shell)

    assert outcome.exit_code == 0
    assert sign in outcome.stdout
    assert "_OPENCODE_MONITOR_COMPLETE" in outcome.stdout


def test_completion_of_a_beginning_names_the_commands() -> None:
    asked = {"_OPENCODE_MONITOR_COMPLETE": "bash_complete", "COMP_WORDS": "opencode-monitor mo", "COMP_CWORD": "1"}

    done = run_program(**asked)

    assert done.stdout.split() == ["plain,models", "plain,monthly"]


def test_completion_of_a_command_imports_none() -> None:
    look = "import sys; from opencode_monitor.cli.app import cli; import click; found = cli.shell_complete(click.Context(cli), ''); "
    left = "[name for name in sys.modules if name in ('opencode_monitor.cli.reports', 'opencode_monitor.cli.importing')]"

    done = subprocess.run([sys.executable, "-c", f"{look}print(len(found) > 30, {left})"], capture_output=True, text=True, check=True)

    assert done.stdout == "True []\n"


def test_completion_of_an_option_of_the_program_names_it() -> None:
    asked = {"_OPENCODE_MONITOR_COMPLETE": "bash_complete", "COMP_WORDS": "opencode-monitor --t", "COMP_CWORD": "1"}

    done = run_program(**asked)

    assert done.stdout.split() == ["plain,--tz"]
