from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

import stores
from opencode_monitor.ingest import pipeline
from opencode_monitor.ingest.pipeline import Surroundings, import_sources
from opencode_monitor.sources.discover import find_sources

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = ("bash", "git_hub_search", "git_status", "github_search", "read", "plan_enter", "skill", "execute", "notes_read_file")


def make_store() -> stores.Store:
    store = stores.Store()
    stores.add_project(store)
    session = stores.add_session(store, stores.START_MS)
    message = stores.add_call(store, session, stores.START_MS)
    for number, tool in enumerate(TOOLS):
        state: stores.Record = {"status": "completed", "input": {"name": "deploy", "path": "a.py"}, "output": "x"}
        if tool == "execute":
            state["metadata"] = {"toolCalls": [{"tool": "github.search", "status": "completed"}]}
        stores.add_part(store, message, stores.START_MS + number, "tool", tool=tool, callID=f"call_{number}", state=state)
    return store


def read(engine: sa.Engine, column: str) -> dict[str, str]:
    with engine.connect() as connection:
        rows = connection.execute(sa.text(f"SELECT tool_name, {column} FROM tool_calls WHERE {column} IS NOT NULL")).all()
    return {row[0]: row[1] for row in rows}


def test_import_tools_are_named_after_declared_servers(engine: sa.Engine, tmp_path: Path) -> None:
    locations = find_sources(stores.write_sqlite(make_store(), tmp_path), {})

    import_sources(engine, locations)
    first = read(engine, "mcp_server")
    import_sources(engine, locations, surroundings=Surroundings(mcp_servers=frozenset({"git", "git.hub", "plan"})))
    declared = read(engine, "mcp_server")
    import_sources(engine, locations, full=True)

    assert first == {"execute": "github"}
    # `github` was stated by a call, so its other tools are told too; OpenCode's own are nobody's.
    assert declared == {"execute": "github", "github_search": "github", "git_hub_search": "git.hub", "git_status": "git"}
    assert read(engine, "mcp_server") == declared
    assert read(engine, "skill_name") == {"skill": "deploy"}


def test_import_stopped_before_its_end_forgets_no_server(engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locations = find_sources(stores.write_sqlite(make_store(), tmp_path), {})
    import_sources(engine, locations, surroundings=Surroundings(mcp_servers=frozenset({"git"})))
    named = read(engine, "mcp_server")

    def stop(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "name_servers", stop)
    with pytest.raises(KeyboardInterrupt):
        import_sources(engine, locations, full=True)

    assert named == {"execute": "github", "git_hub_search": "git", "git_status": "git"}
    assert read(engine, "mcp_server") == named


def test_import_file_tools_count_where_declared(engine: sa.Engine, tmp_path: Path) -> None:
    locations = find_sources(stores.write_sqlite(make_store(), tmp_path), {})

    import_sources(engine, locations, surroundings=Surroundings(file_tools={"notes_read_file": "read"}))

    with engine.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT t.tool_name, f.file_path, f.operation FROM file_operations f JOIN tool_calls t ON t.part_id = f.part_id"
                " WHERE t.call_id IN ('call_4', 'call_8') ORDER BY 1"
            )
        ).all()
    assert [tuple(row) for row in rows] == [("notes_read_file", "/home/dev/shop/a.py", "read"), ("read", "/home/dev/shop/a.py", "read")]
