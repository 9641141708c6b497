"""Write an OpenCode data directory to measure with: years of work in the shapes of OpenCode 1.2 (a database) or 1.1 (a JSON tree).

    python benchmarks/make_store.py DIRECTORY [--calls 10000] [--json] [--seed 1]

The sizes are those of real stores: a call has some four parts, most of a store's bytes are the output of tools, and that is long-tailed (a
median of a few kilobytes, now and then 200). The text is made of words, so that it compresses about as code and logs do. The same seed
writes the same store.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_MS = 1_735_689_600_000  # 2025-01-01
_PROJECT = {"id": "b3ac4e1f90d27c5588aa01f6e2d7c94b0e5f3a68", "worktree": "/home/dev/bench", "vcs": "git"}
_VERSION = "1.2.15"
_MODELS = (("anthropic", "claude-sonnet-4-5", 3.0, 15.0), ("openai", "gpt-5", 1.25, 10.0), ("google", "gemini-2.5-pro", 1.25, 10.0))
_TOOLS = ("read", "bash", "grep", "edit", "write")
_CALLS_PER_SESSION = 40
_MEDIAN_OUTPUT = 6_000
_OUTPUT_SIGMA = 1.6
_LONGEST_OUTPUT = 200_000


class _Database:
    """The three tables of `opencode.db` that sessions are in, with their indexes."""

    def __init__(self, directory: Path) -> None:
        self.connection = sqlite3.connect(directory / "opencode.db")
        self.connection.executescript("""
            CREATE TABLE project (id TEXT PRIMARY KEY, worktree TEXT, vcs TEXT, name TEXT, time_created INTEGER, time_updated INTEGER);
            CREATE TABLE session (id TEXT PRIMARY KEY, project_id TEXT, parent_id TEXT, title TEXT, directory TEXT, version TEXT,
                                  time_created INTEGER, time_updated INTEGER);
            CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER, time_updated INTEGER, data TEXT);
            CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT, session_id TEXT, time_created INTEGER, time_updated INTEGER,
                               data TEXT);
            CREATE INDEX message_session_idx ON message (session_id);
            CREATE INDEX part_message_idx ON part (message_id);
            CREATE INDEX part_session_idx ON part (session_id);
        """)
        self.connection.execute("INSERT INTO project VALUES (?, ?, ?, NULL, ?, ?)", (*_PROJECT.values(), _START_MS, _START_MS))

    def put(self, table: str, record: dict[str, Any]) -> None:
        created = record["time"]["created"] if table != "part" else record["start"]
        if table == "session":
            values: tuple[Any, ...] = (_PROJECT["id"], None, record["title"], _PROJECT["worktree"], _VERSION, created, created)
        else:
            # The columns hold the ids; the object in `data` is without them.
            data = json.dumps({key: value for key, value in record.items() if key not in {"id", "sessionID", "messageID", "start"}})
            owners = (record["messageID"], record["sessionID"]) if table == "part" else (record["sessionID"],)
            values = (*owners, created, created, data)
        marks = ", ".join("?" * (len(values) + 1))
        self.connection.execute(f"INSERT INTO {table} VALUES ({marks})", (record["id"], *values))


class _Tree:
    """`storage/`, one file for each record."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "storage"
        self._write(f"project/{_PROJECT['id']}", {**_PROJECT, "time": {"created": _START_MS}})

    def put(self, table: str, record: dict[str, Any]) -> None:
        owner = {"session": _PROJECT["id"], "message": record.get("sessionID"), "part": record.get("messageID")}[table]
        self._write(f"{table}/{owner}/{record['id']}", {key: value for key, value in record.items() if key != "start"})

    def _write(self, name: str, record: dict[str, Any]) -> None:
        file = self.root / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=2), encoding="utf-8")


def write_store(directory: Path, *, calls: int, as_json: bool = False, seed: int = 1) -> None:
    """Write a store.

    Args:
        directory: An empty or absent data directory.
        calls: About how many model calls it holds; 10,000 are some 55,000 records and 350 MB.
        as_json: Write a JSON tree, not a database.
        seed: Another one makes another store.
    """
    directory.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)  # noqa: S311 - not for secrets: the same seed has to write the same store
    if as_json:
        tree = _Tree(directory)
        for table, record in _records(chance, calls):
            tree.put(table, record)
        return
    database = _Database(directory)
    with closing(database.connection), database.connection:
        for table, record in _records(chance, calls):
            database.put(table, record)


def _records(chance: random.Random, calls: int) -> Iterator[tuple[str, dict[str, Any]]]:
    prose = " ".join("".join(chance.choices("abcdefghijklmnopqrstuvwxyz_", k=chance.randint(2, 11))) for _ in range(60_000))
    numbers = iter(range(10**9))

    def make_id(prefix: str, ms: int) -> str:
        return f"{prefix}_{(ms * 4096) % (1 << 48):012x}{next(numbers):014d}"

    def text(length: float) -> str:
        length = int(min(length, _LONGEST_OUTPUT))
        start = chance.randrange(max(1, len(prose) - length))
        return prose[start : start + length]

    at = _START_MS
    for number in range(max(1, calls // _CALLS_PER_SESSION)):
        at += 3_600_000
        session = {"id": make_id("ses", at), "version": _VERSION, "projectID": _PROJECT["id"], "directory": _PROJECT["worktree"]}
        yield "session", {**session, "title": f"Session {number}", "time": {"created": at, "updated": at}}
        provider, model, price_in, price_out = chance.choice(_MODELS)
        user = {"id": make_id("msg", at), "sessionID": session["id"], "role": "user", "time": {"created": at}}
        yield "message", {**user, "agent": "build", "model": {"providerID": provider, "modelID": model}}
        yield "part", {**_part(make_id, user, at, "text"), "text": text(400)}
        for _ in range(_CALLS_PER_SESSION):
            at += chance.randint(5_000, 40_000)
            fresh, output = chance.randint(200, 9_000), chance.randint(40, 1_500)
            usage = {
                "cost": round((fresh * price_in + output * price_out) / 1e6, 9),
                "tokens": {"input": fresh, "output": output, "reasoning": 0, "cache": {"read": 0, "write": 0}},
            }
            message = {"id": make_id("msg", at), "sessionID": session["id"], "role": "assistant", "parentID": user["id"]}
            message |= {"providerID": provider, "modelID": model, "mode": "build", "agent": "build", "finish": "tool-calls"}
            yield "message", {**message, "time": {"created": at, "completed": at + 4_000}, **usage}
            yield "part", {**_part(make_id, message, at, "step-start"), "snapshot": f"{chance.getrandbits(160):040x}"}
            if chance.random() < 0.6:
                yield "part", {**_part(make_id, message, at + 1, "text"), "text": text(chance.expovariate(1 / 300))}
            yield "part", {**_part(make_id, message, at + 2, "tool"), **_tool_call(chance, at, text)}
            yield "part", {**_part(make_id, message, at + 3_000, "step-finish"), "reason": "tool-calls", **usage}


def _part(make_id: Any, message: dict[str, Any], at: int, part_type: str) -> dict[str, Any]:
    return {"id": make_id("prt", at), "sessionID": message["sessionID"], "messageID": message["id"], "type": part_type, "start": at}


def _tool_call(chance: random.Random, at: int, text: Any) -> dict[str, Any]:
    tool = chance.choice(_TOOLS)
    state = {
        "status": "completed",
        "input": {"filePath": f"/home/dev/bench/src/module_{chance.randrange(400)}.py", "pattern": text(60)},
        "output": text(_MEDIAN_OUTPUT * chance.lognormvariate(0, _OUTPUT_SIGMA)),
        "title": tool,
        "metadata": {"preview": text(300), "truncated": False},
        "time": {"start": at + 2, "end": at + 2_500},
    }
    return {"callID": f"call_{chance.getrandbits(96):024x}", "tool": tool, "state": state}


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write an OpenCode data directory to measure with.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--json", action="store_true", help="a JSON tree, not a database")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    write_store(options.directory, calls=options.calls, as_json=options.json, seed=options.seed)


if __name__ == "__main__":
    _main()
