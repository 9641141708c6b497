"""Tables on narrow terminals: names give way, numbers never."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from commands import run
from opencode_monitor.cli.app import main
from opencode_monitor.cli.output import View, print_view

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import stores

    MakeOnce = Callable[[str, Callable[[Path], None]], Path]

HEADERS = [("Model", "left"), ("Day", "whole"), ("Cache rd", "right"), ("Cost", "right")]
ROW = ["anthropic/claude-sonnet-4-5", "2026-11-26", "12,345,678", "≥ $1,234.56"]
NUMBER = re.compile(r"\$[\d,.]+|[\d.]+%|\d[\d,]*,\d{3}")
TOTAL = ["Total", "", "12,345,678", "≥ $1,234.56"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(database: Path, monkeypatch: pytest.MonkeyPatch, columns: str, *arguments: str) -> str:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with contextlib.redirect_stdout(stream), contextlib.suppress(SystemExit):
        main(["--db", str(database), "--tz", "UTC", "-q", *arguments])
    return stream.getvalue()


@pytest.fixture
def priced(make_once: MakeOnce, sample_database: Path) -> Path:
    """The sample with carried costs."""

    def write(database: Path) -> None:
        shutil.copy(sample_database, database)
        assert run("--db", database, "-q", "metrics", "carried").exit_code == 0

    return make_once("sample-carried", write)


@pytest.fixture
def ids(sample: stores.Store) -> dict[str, str]:
    """A message of a call, its session, and a part that the call wrote."""
    part = next(one for one in sample.parts if one["type"] == "tool")
    return {"part_id": part["id"], "message_id": part["messageID"], "session_id": part["sessionID"]}


def printed(view: View, width: int, *, is_terminal: bool = True) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, force_terminal=is_terminal, color_system=None)
    with screen.capture() as captured:
        print_view(screen, view)
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", captured.get()).splitlines()]


@pytest.mark.parametrize(
    ("width", "cells"),
    [
        (80, "anthropic/claude-sonnet-4-5   2026-11-26   12,345,678   ≥ $1,234.56"),
        (60, "anthropic/claude-so…   2026-11-26   12,345,678   ≥ $1,234.56"),
        (52, "anthropic/claude-… 2026-11-26 12,345,678 ≥ $1,234.56"),
        (42, "anthrop… 2026-11-26 12,345,678 ≥ $1,234.56"),
        (20, "anthropic/claud… 2026-11-26 12,345,678 ≥ $1,234.56"),
    ],
)
def test_print_view_names_and_gaps_give_way_and_numbers_stay_whole(width: int, cells: str) -> None:
    lines = printed(View(HEADERS, [ROW], [TOTAL]), width)

    row = next(line for line in lines if line.startswith("anth"))
    assert row == cells
    assert (len(row) <= width) == (width > 20)
    assert lines[-1].split() == ["Total", "12,345,678", "≥", "$1,234.56"]


def test_print_view_titles_of_numbers_are_broken_before_names_are_lost() -> None:
    view = View([("", "left"), ("Tokens of the step", "right"), ("USD per million", "right")], [["Cache read", "134,640", "0.3"]])

    assert printed(view, 40) == [
        "              Tokens",
        "              of the   USD per",
        "                step   million",
        "──────────────────────────────",
        "Cache read   134,640       0.3",
    ]


def test_print_view_folded_names_are_broken_on_a_terminal_and_whole_elsewhere() -> None:
    view = View(HEADERS, [ROW], is_folded=True)

    assert printed(view, 40)[2:4] == ["anthropic/claude-sonnet-   2026-11-26   12,345,678   ≥ $1,234.56", "4-5"]
    assert printed(view, 40, is_terminal=False)[2] == "anthropic/claude-sonnet-4-5   2026-11-26   12,345,678   ≥ $1,234.56"


@pytest.mark.parametrize("columns", ["40", "60", "80"])
@pytest.mark.parametrize(
    "command",
    [
        "daily --last all",
        "models --last 1y --compare",
        "tools --last all",
        "files --last all",
        "unrecorded --last all",
        "sessions --last all",
        "by month model --last all",
        "trend --last all --every month",
        "message {message_id}",
        "part {part_id}",
        "session {session_id} --costliest 3",
        "carried --last all",
        "pricing show anthropic/claude-sonnet-4-5",
    ],
)
def test_commands_cut_no_number_on_a_narrow_terminal(
    priced: Path, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch, columns: str, command: str
) -> None:
    arguments = command.format(**ids).split()

    wide = on_terminal(priced, monkeypatch, "400", *arguments)
    narrow = on_terminal(priced, monkeypatch, columns, *arguments)

    assert NUMBER.findall(wide)
    assert sorted(NUMBER.findall(narrow)) == sorted(NUMBER.findall(wide))
