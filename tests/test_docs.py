"""README.md and docs/ say what is there: commands, options, tables, queries, dependencies, files, and examples that run."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
import sqlalchemy as sa

import forked
from commands import run
from opencode_monitor.cli.app import cli
from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import upgrade
from opencode_monitor.metrics.dimensions import DIMENSIONS
from opencode_monitor.metrics.measures import MEASURES
from opencode_monitor.models import Base
from opencode_monitor.sources.demo import write_demo_store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
TEXT = {document.relative_to(ROOT).as_posix(): document.read_text(encoding="utf-8") for document in DOCUMENTS}
EXAMPLES = [
    pytest.param(example, id=f"{name}-{number}")
    for name, text in TEXT.items()
    for number, example in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
]
# What stands as code: "session" is a word of the prose as well as a command.
CODE = "\n".join(re.findall(r"^```.*?^```|`[^`\n]+`", "\n".join(TEXT.values()), re.MULTILINE | re.DOTALL))
QUESTIONS = runpy.run_path(str(ROOT / "benchmarks/queries.py"))["read_questions"](TEXT["docs/queries.md"])


def is_named(word: str, text: str) -> bool:
    """Tell whether a text names something: `--since` is not named by `--since-when`."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def commands(command: click.Command, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Walk the tree of commands."""
    yield " ".join(path), command
    if isinstance(command, click.Group) and path != ("report",):  # its commands stand at the top level too
        for name, child in command.commands.items():
            yield from commands(child, *path, name)


def test_erd_committed_drawings_follow_from_the_models() -> None:
    result = subprocess.run([sys.executable, ROOT / "docs/erd.py", "--check"], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr


def test_documents_every_command_is_named() -> None:
    missing = [name for name, _ in commands(cli) if name and not is_named(name, CODE)]

    assert missing == []


def test_documents_every_option_is_named() -> None:
    missing = [
        f"{name} {parameter.opts[0]}"
        for name, command in commands(cli)
        for parameter in command.params
        if isinstance(parameter, click.Option) and not any(is_named(word, CODE) for word in (*parameter.opts, *parameter.secondary_opts))
    ]

    assert missing == []


@pytest.mark.parametrize("name", TEXT)
def test_documents_every_relative_link_leads_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", TEXT[name])

    dead = [link for link in links if "://" not in link and not (ROOT / name).parent.joinpath(link).exists()]

    assert dead == []


def test_schema_document_every_table_is_described() -> None:
    by_hand = re.sub(r"<!-- erd:begin -->.*<!-- erd:end -->", "", TEXT["docs/schema.md"], flags=re.DOTALL)

    missing = [table for table in Base.metadata.tables if not is_named(table, by_hand)]

    assert missing == []


def test_dependencies_document_every_dependency_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = TEXT["docs/dependencies.md"]
    in_tables = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    shipped = [
        *project["project"]["dependencies"],
        *(name for extra in project["project"]["optional-dependencies"].values() for name in extra),
    ]
    for_development = [name for group in project["dependency-groups"].values() for name in group if isinstance(name, str)]

    def missing(requirements: Iterable[str], where: str) -> list[str]:
        names = (re.split(r"[\[<>=!~ ]", requirement)[0] for requirement in requirements)
        return [name for name in names if not is_named(name, where)]

    assert missing(shipped, in_tables) == []
    assert missing(for_development, text) == []


@pytest.fixture(scope="module")
def demo_database(tmp_path_factory: pytest.TempPathFactory, duckdb_at_head: Path) -> Path:
    """Import the demo's store into a database that the examples read."""
    directory = tmp_path_factory.mktemp("demo")
    write_demo_store(directory / "opencode", now=datetime.now(UTC))
    database = Path(shutil.copy(duckdb_at_head, directory / "monitor.duckdb"))
    outcome = run("--db", database, "--tz", "UTC", "-q", "import", directory / "opencode")
    assert outcome.exit_code == 0, outcome.stderr
    return database


@pytest.mark.parametrize("example", EXAMPLES)
def test_documents_python_example_runs(example: str, demo_database: Path, tmp_path: Path) -> None:
    database = shutil.copy(demo_database, tmp_path / "monitor.duckdb")
    environment = {**os.environ, "OPENCODE_MONITOR_DATABASE_URL": f"duckdb:///{database}", "OPENCODE_MONITOR_TZ": "UTC"}

    result = forked.run(f"import warnings\nwarnings.simplefilter('error')\n{example}", cwd=tmp_path, env=environment)

    assert result.returncode == 0, result.stderr


def old_part(part_id: str, part_type: str, minute: int, session_id: str = "ses_1", **values: Any) -> dict[str, Any]:
    """Build a row of the 29-column table."""
    created_at = datetime(2026, 5, 4, 12, minute)  # noqa: DTZ001 - as the database has it: UTC without a zone
    return {"part_id": part_id, "session_id": session_id, "part_type": part_type, "created_at": created_at, **values}


def old_call(part_id: str, minute: int, tool_name: str, execution_time_ms: float | None, **values: Any) -> dict[str, Any]:
    call = {"tool_name": tool_name, "execution_time_ms": execution_time_ms, "tool_args": '{"a": 1}', "tool_result": "done"}
    return old_part(part_id, "tool_call", minute, **{**call, "tool_status": "success", **values})


OLD_PARTS = [
    old_part("prt_01", "step_start", 1),
    old_part("prt_02", "thinking", 2, content="hmm", thinking_tokens=40),
    old_part("prt_03", "text", 3, content="hello"),
    old_call("prt_04", 4, "bash", 12.5),
    old_call("prt_05", 5, "edit", 40.0, file_path="/a.py", file_operation="edit", git_diff="+1"),
    old_call("prt_06", 6, "bash", 8.0, tool_status="error", error_data='{"code": 1}', error_category="timeout", error_message="slow"),
    old_call("prt_07", 7, "bash", None, tool_status="timeout", error_data='{"code": 2}', error_category="timeout"),
    old_part("prt_08", "error", 8, error_data='{"code": 3}', error_category="network"),
    old_part("prt_09", "file_operation", 9, file_path="/a.py", file_operation="read"),
    old_part("prt_10", "patch", 10, git_commit="abc"),
    old_part("prt_11", "attachment", 11, file_path="a.png"),
    old_part("prt_12", "compaction", 12),
    old_part("prt_13", "step_finish", 13, tokens_input=10, tokens_output=5, tokens_cache_read=7, cost_usd=0.25),
    old_part("prt_14", "thinking", 1, session_id="ses_2", content="so", thinking_tokens=2),
    old_call("prt_15", 2, "bash", 12.5, session_id="ses_2", file_path="/b.py", file_operation="read"),
]


def ask(connection: sa.Connection, statements: list[str]) -> list[list[dict[str, str]]]:
    """Answer each statement, about a known session and part."""
    values = {"session_id": "ses_1", "part_id": "prt_05"}
    answers = []
    for statement in statements:
        used = {name: value for name, value in values.items() if f":{name}" in statement}
        rows = connection.execute(sa.text(statement), used).mappings()
        answers.append([{name: comparable(value) for name, value in row.items() if value is not None} for row in rows])
    return answers


def comparable(value: object) -> str:
    """Write a value so that a number compares across its types: a cost moves from DOUBLE to NUMERIC, a count from INT to BIGINT."""
    return json.dumps(float(value) if isinstance(value, int | Decimal) else value, default=str)


def values_by_part(answers: list[list[dict[str, str]]]) -> dict[str, set[str]]:
    """Collect what all statements together say of each part, in the order of the first."""
    values: dict[str, set[str]] = {}
    for row in (row for rows in answers for row in rows):
        values.setdefault(row["part_id"], set()).update(row.values())
    return values


def test_queries_document_before_and_after_the_migration_answer_alike(empty_database_url: str) -> None:
    upgrade(empty_database_url, "resource_metrics")
    engine = create_database_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO sessions (session_id) VALUES ('ses_1'), ('ses_2')"))
        for row in OLD_PARTS:
            connection.execute(sa.text(f"INSERT INTO parts ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"), row)
        before = {question.title: ask(connection, question.before) for question in QUESTIONS}
    upgrade(empty_database_url)

    with engine.connect() as connection:
        after = {question.title: ask(connection, question.after) for question in QUESTIONS}
    engine.dispose()

    for title, (old_rows,) in before.items():
        new_answers = after[title]
        assert old_rows, title
        if len(new_answers) == 1:
            # Columns may have new names; values and their order may not differ. Rows do where the question names no order.
            assert sorted(list(row.values()) for row in new_answers[0]) == sorted(list(row.values()) for row in old_rows), title
            continue
        old_values, new_values = values_by_part([old_rows]), values_by_part(new_answers)
        assert list(old_values) == list(new_values), title
        assert {part_id: old - new_values[part_id] for part_id, old in old_values.items() if old - new_values[part_id]} == {}, title


def test_usage_document_every_dimension_and_measure_is_described() -> None:
    in_tables = "\n".join(line for line in TEXT["docs/usage.md"].splitlines() if line.startswith("|"))

    missing = [name for name in (*DIMENSIONS, *MEASURES) if f"`{name}`" not in in_tables]

    assert missing == []
