"""OpenCode stores for tests: built as records, written as a JSON tree or as a database, with the totals that they must reach.

The totals are kept beside the records while these are made, in integers and decimals: nothing of the program takes part in them.
"""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Record = dict[str, Any]
Sums = tuple[int, int, int, int, int, int, Decimal]
"""Calls, input, cache read, cache write, output, reasoning, USD."""

START_MS = 1_788_253_200_000  # 2026-09-01 09:00 UTC
DAY_MS = 86_400_000
PROJECT_ID = "5e5f0c6d1a7b4c2e9d3f8a6b7c8d9e0f1a2b3c4d"
SONNET = "anthropic/claude-sonnet-4-5"
HAIKU = "anthropic/claude-haiku-4-5"
GPT = "openai/gpt-5"
UNPRICED = "ollama/qwen3-coder-local"
_LEAVES = (0x0D, 0x0A)  # the first byte of a page of SQLite: of tables and of indexes
USD_PER_MILLION = {  # input, cache read, cache write, output and reasoning
    SONNET: (Decimal(3), Decimal("0.30"), Decimal("3.75"), Decimal(15)),
    HAIKU: (Decimal(1), Decimal("0.10"), Decimal("1.25"), Decimal(5)),
    GPT: (Decimal("1.25"), Decimal("0.125"), Decimal(0), Decimal(10)),
}

_SCHEMA = """
CREATE TABLE project (id text PRIMARY KEY, worktree text, vcs text, name text, time_created integer, time_updated integer);
CREATE TABLE session (id text PRIMARY KEY, project_id text, parent_id text, directory text, title text, version text,
    time_created integer, time_updated integer);
CREATE TABLE message (id text PRIMARY KEY, session_id text, time_created integer, time_updated integer, data text);
CREATE TABLE part (id text PRIMARY KEY, message_id text, session_id text, time_created integer, time_updated integer, data text);
CREATE INDEX message_session_time_created_id_idx ON message (session_id, time_created, id);
CREATE INDEX part_session_idx ON part (session_id);
"""


@dataclass(slots=True)
class Store:
    """Records as OpenCode has them, each with its ids, and what they sum to.

    Attributes:
        truth: Grouping (`day` in UTC, `model`, `session`, `agent`) -> key -> sums.
    """

    projects: list[Record] = field(default_factory=list)
    sessions: list[Record] = field(default_factory=list)
    messages: list[Record] = field(default_factory=list)
    parts: list[Record] = field(default_factory=list)
    truth: dict[str, dict[str, Sums]] = field(default_factory=lambda: defaultdict(dict))
    counter: int = 0

    @property
    def total(self) -> Sums:
        """The sums over everything."""
        whole: Sums = (0, 0, 0, 0, 0, 0, Decimal(0))
        for sums in self.truth["model"].values():
            whole = _add(whole, sums)
        return whole

    def make_id(self, prefix: str, ms: int) -> str:
        """Make an id that sorts by time, a session's newest first, as OpenCode's do."""
        self.counter += 1
        bits = (ms * 4096 + self.counter % 4096) % (1 << 48)
        if prefix == "ses":
            bits ^= (1 << 48) - 1
        return f"{prefix}_{bits:012x}{self.counter:014d}"


def add_project(store: Store) -> None:
    store.projects.append(
        {"id": PROJECT_ID, "worktree": "/home/dev/shop", "vcs": "git", "name": "shop", "time": {"created": START_MS, "updated": START_MS}}
    )


def add_session(store: Store, at: int, *, title: str = "Fix the cart", version: str = "1.18.33", parent: str | None = None) -> Record:
    session: Record = {
        "id": store.make_id("ses", at),
        "version": version,
        "projectID": PROJECT_ID,
        "directory": "/home/dev/shop",
        "title": title,
        "time": {"created": at, "updated": at},
    }
    if parent:
        session["parentID"] = parent
    store.sessions.append(session)
    return session


def add_user(store: Store, session: Record, at: int, *, text: str = "Please fix it.", model: str = SONNET, agent: str = "build") -> Record:
    provider, _, name = model.partition("/")
    message = {
        "id": store.make_id("msg", at),
        "sessionID": session["id"],
        "role": "user",
        "time": {"created": at},
        "agent": agent,
        "model": {"providerID": provider, "modelID": name},
    }
    store.messages.append(message)
    add_part(store, message, at, "text", text=text)
    session["time"]["updated"] = at
    return message


def add_part(store: Store, message: Record, at: int, part_type: str, **fields: Any) -> Record:
    part = {"id": store.make_id("prt", at), "sessionID": message["sessionID"], "messageID": message["id"], "type": part_type, **fields}
    store.parts.append(part)
    return part


def add_call(
    store: Store,
    session: Record,
    at: int,
    *,
    model: str = SONNET,
    buckets: tuple[int, int, int, int, int] = (10, 2_000, 300, 150, 0),
    agent: str = "build",
    steps: int = 1,
    counted: bool = True,
) -> Record:
    """Add one assistant message with its parts; each of its steps has the same usage.

    Args:
        store: Added to.
        session: Whose message it is; its version says how the reasoning is stored.
        at: When, in Unix milliseconds.
        model: As "vendor/model".
        buckets: Input, cache read, cache write, visible output, reasoning.
        agent: Who called.
        steps: How many model calls the message is made of.
        counted: Whether it is a call of its own in the totals.
    """
    provider, _, name = model.partition("/")
    fresh, read, write, output, reasoning = buckets
    is_beside = session["version"] == "1.18.33"
    tokens = {
        "input": fresh,
        "output": output if is_beside else output + reasoning,
        "reasoning": reasoning,
        "cache": {"read": read, "write": write},
        "total": sum(buckets),
    }
    message: Record = {
        "id": store.make_id("msg", at),
        "sessionID": session["id"],
        "role": "assistant",
        "time": {"created": at, "completed": at + 5_000},
        "parentID": "msg_user",
        "providerID": provider,
        "modelID": name,
        "mode": agent,
        "agent": agent,
        "finish": "stop",
        "cost": 0.001 * steps,
        "tokens": tokens,
    }
    store.messages.append(message)
    for step in range(steps):
        begin = at + 1_000 * step
        add_part(store, message, begin + 1, "step-start", snapshot="abc")
        if reasoning:
            add_part(store, message, begin + 2, "reasoning", text="Let me think. " * 5, time={"start": begin + 2, "end": begin + 50})
        state = {
            "status": "completed",
            "input": {"filePath": "/home/dev/shop/cart.py"},
            "output": "def total(): ...",
            "title": "cart.py",
            "metadata": {},
            "time": {"start": begin + 60, "end": begin + 160},
        }
        add_part(store, message, begin + 60, "tool", callID=f"call_{store.counter}", tool="read", state=state)
        add_part(store, message, begin + 200, "text", text="Done: it rounds once.", time={"start": begin + 200, "end": begin + 300})
        add_part(store, message, begin + 400, "step-finish", reason="stop", cost=0.001, tokens=tokens)
    session["time"]["updated"] = at + 5_000
    if counted:
        _count(store, session, at, model, agent, buckets, steps)
    return message


def add_fork(store: Store, source: Record, at: int) -> Record:
    """Add a session that begins with copies of another's messages: new ids, the old times, tokens and costs."""
    fork = add_session(store, at, title=f"{source['title']} (fork #1)", version=source["version"])
    originals = [message for message in store.messages if message["sessionID"] == source["id"]]
    ids = {message["id"]: store.make_id("msg", at) for message in originals}
    store.messages += [{**message, "id": ids[message["id"]], "sessionID": fork["id"]} for message in originals]
    store.parts += [
        {**part, "id": store.make_id("prt", at), "messageID": ids[part["messageID"]], "sessionID": fork["id"]}
        for part in list(store.parts)
        if part["messageID"] in ids
    ]
    return fork


def sample(seed: int = 7, *, counter: int = 0, sessions: int = 8) -> Store:
    """Make a week of work: three models, both ways of storing reasoning, messages of several steps, a sub-agent and a fork.

    Args:
        seed: What the numbers follow from.
        counter: Where the ids begin; two stores that are joined need two that are far apart.
        sessions: How many days, each with one session.
    """
    chance = random.Random(seed)  # noqa: S311 - the same seed has to make the same store
    store = Store(counter=counter)
    add_project(store)
    for number in range(sessions):
        at = START_MS + number * DAY_MS - 3_600_000 * chance.randrange(12)
        session = add_session(store, at, version=("1.1.65", "1.18.33")[number % 2])
        add_user(store, session, at)
        model = (SONNET, GPT, HAIKU, GPT)[number % 4]
        for call in range(chance.randint(2, 6)):
            at += chance.randint(10_000, 4 * 3_600_000)
            add_call(store, session, at, model=model, buckets=_random_buckets(chance, model), steps=3 if call == 1 else 1)
        if number == 2:
            child = add_session(store, at + 100, title="look around (@general subagent)", parent=session["id"])
            add_user(store, child, at + 200, agent="general")
            add_call(store, child, at + 300, model=HAIKU, agent="general", buckets=_random_buckets(chance, HAIKU))
        if number == 4:
            fork = add_fork(store, session, at + 60_000)
            add_user(store, fork, at + 70_000)
            add_call(store, fork, at + 80_000, model=SONNET, buckets=_random_buckets(chance, SONNET))
    return store


def write_json(store: Store, data_directory: Path) -> Path:
    """Write a store as the JSON tree of OpenCode 0.6 to 1.1; return its `storage` directory."""
    storage = data_directory / "storage"
    for project in store.projects:
        write_record(storage / "project" / f"{project['id']}.json", project)
    for session in store.sessions:
        write_record(storage / "session" / session["projectID"] / f"{session['id']}.json", session)
    for message in store.messages:
        write_record(storage / "message" / message["sessionID"] / f"{message['id']}.json", message)
    for part in store.parts:
        write_record(storage / "part" / part["messageID"] / f"{part['id']}.json", part)
    return storage


def write_record(path: Path, content: object) -> Path:
    """Write one file: bytes as they are, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content, indent=2).encode())
    return path


def write_sqlite(store: Store, data_directory: Path, name: str = "opencode.db") -> Path:
    """Write a store as the database of OpenCode 1.2 to 1.18, or add to it; return its path."""
    data_directory.mkdir(parents=True, exist_ok=True)
    path = data_directory / name
    is_new = not path.exists()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        if is_new:
            connection.executescript(_SCHEMA)
        for project in store.projects:
            times = project["time"]
            values = (project["id"], project["worktree"], project["vcs"], project["name"], times["created"], times["updated"])
            connection.execute("INSERT OR REPLACE INTO project VALUES (?, ?, ?, ?, ?, ?)", values)
        for session in store.sessions:
            names = ("id", "projectID", "parentID", "directory", "title", "version")
            times = session["time"]
            of_session = (*(session.get(key) for key in names), times["created"], times["updated"])
            connection.execute("INSERT OR REPLACE INTO session VALUES (?, ?, ?, ?, ?, ?, ?, ?)", of_session)
        for message in store.messages:
            created = message["time"]["created"]
            of_message = (message["id"], message["sessionID"], created, created, _data(message))
            connection.execute("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?)", of_message)
        for part in store.parts:
            of_part = (part["id"], part["messageID"], part["sessionID"], START_MS, START_MS, _data(part))
            connection.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?)", of_part)
    return path


def damage(path: Path, table: str) -> None:
    """Overwrite the middle of one of the pages that hold the rows of a table, or the entries of an index."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
        ((size,),) = connection.execute("PRAGMA page_size")
    content = bytearray(path.read_bytes())

    def at(page: int) -> int:
        return (page - 1) * int(size)

    page: int = root
    while content[at(page)] not in _LEAVES:  # an inner page: go down in the middle
        cells = int.from_bytes(content[at(page) + 3 : at(page) + 5])
        pointer = at(page) + 12 + 2 * (cells // 2)
        cell = at(page) + int.from_bytes(content[pointer : pointer + 2])
        page = int.from_bytes(content[cell : cell + 4])
    # The header and the pointers to the cells: where a row begins is not known any more.
    content[at(page) + 1 : at(page) + 200] = b"\xee" * 199
    path.write_bytes(content)


def _data(record: Record) -> str:
    return json.dumps({key: value for key, value in record.items() if key not in {"id", "sessionID", "messageID"}})


def _random_buckets(chance: random.Random, model: str) -> tuple[int, int, int, int, int]:
    is_anthropic = model.startswith("anthropic")
    return (
        chance.randint(3, 9_000),
        chance.randint(0, 90_000),
        chance.randint(1, 9_000) if is_anthropic else 0,
        chance.randint(20, 1_500),
        0 if is_anthropic else chance.randint(10, 3_000),
    )


def _count(store: Store, session: Record, at: int, model: str, agent: str, buckets: tuple[int, int, int, int, int], steps: int) -> None:
    fresh, read, write, output, reasoning = (count * steps for count in buckets)
    prices = USD_PER_MILLION.get(model)
    usd = Decimal(0)
    if prices:
        usd = (fresh * prices[0] + read * prices[1] + write * prices[2] + (output + reasoning) * prices[3]) / 1_000_000
    sums = (steps, fresh, read, write, output, reasoning, usd)
    day = datetime.fromtimestamp(at / 1000, UTC).date().isoformat()
    for grouping, key in (("day", day), ("model", model), ("session", session["id"]), ("agent", agent)):
        known = store.truth[grouping].get(key)
        store.truth[grouping][key] = _add(known, sums) if known else sums


def _add(left: Sums, right: Sums) -> Sums:
    return (
        left[0] + right[0],
        left[1] + right[1],
        left[2] + right[2],
        left[3] + right[3],
        left[4] + right[4],
        left[5] + right[5],
        left[6] + right[6],
    )
