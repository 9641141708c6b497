"""Write a small sample of what OpenCode stores, so that the reports show something where no OpenCode is installed.

Two weeks of one developer's work in the format of OpenCode 1.1 (a JSON tree), ending today: three models, a sub-agent, a fork, a failed
call, one that was cut off, and a model without a public price. The same day makes the same sample; every number in it is invented.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_DAYS = 14
_SATURDAY = 5
_HOUR_MS = 3_600_000
_THINKS = 0.3  # share of calls with thinking
_FAILS = 0.06  # share of tool calls that fail
_PROJECT_ID = "5e5f0c6d1a7b4c2e9d3f8a6b7c8d9e0f1a2b3c4d"
_WORKTREE = "/home/dev/shop"
_TOOLS = (
    ("read", {"filePath": f"{_WORKTREE}/src/cart.py"}, "def total(items):\n    return sum(item.price for item in items)\n" * 12),
    ("grep", {"pattern": "round\\(", "path": _WORKTREE}, "src/cart.py:14: round(total, 2)\n" * 6),
    ("edit", {"filePath": f"{_WORKTREE}/src/cart.py", "oldString": "sum(", "newString": "round(sum("}, "Edit applied successfully."),
    ("bash", {"command": "pytest -q", "description": "Run the tests"}, "........................ [100%]\n24 passed in 0.31s\n"),
)
_TITLES = (
    "Round the totals of the cart",
    "Explain the import order",
    "Add an index to orders",
    "Find the slow test",
    "Rename Basket to Cart",
    "Write the release notes",
    "Mend the flaky checkout test",
    "Compare two tax tables",
)
# (provider, model, USD per million tokens of input, cache read, cache write, output; None where OpenCode knows no price)
_SONNET = ("anthropic", "claude-sonnet-4-5", (3.0, 0.30, 3.75, 15.0))
_OPUS = ("anthropic", "claude-opus-4-5", (5.0, 0.50, 6.25, 25.0))
_GPT = ("openai", "gpt-5", (1.25, 0.125, 0.0, 10.0))
_LOCAL = ("ollama", "qwen3-coder-local", None)
_Model = tuple[str, str, tuple[float, float, float, float] | None]


@dataclass(slots=True)
class _Writer:
    """Writes records, with ids that sort by time as OpenCode's do, and keeps a session's for a fork of it."""

    root: Path
    random: random.Random
    counter: int = 0
    written: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def make_id(self, prefix: str, ms: int) -> str:
        self.counter += 1
        bits = (ms * 4096 + self.counter % 4096) % (1 << 48)
        if prefix == "ses":
            bits ^= (1 << 48) - 1
        return f"{prefix}_{bits:012x}{self.random.getrandbits(70):014x}"[:30]

    def put(self, place: str, record: dict[str, Any]) -> None:
        file = self.root / "storage" / f"{place}/{record['id']}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record, indent=2), encoding="utf-8")

    def message(self, record: dict[str, Any]) -> None:
        self.put(f"message/{record['sessionID']}", record)
        self.written.append(("message", record))

    def part(self, message: dict[str, Any], ms: int, part_type: str, **fields: Any) -> None:
        record = {
            "id": self.make_id("prt", ms),
            "sessionID": message["sessionID"],
            "messageID": message["id"],
            "type": part_type,
            **fields,
        }
        self.put(f"part/{message['id']}", record)
        self.written.append(("part", record))


def write_demo_store(directory: Path, *, now: datetime) -> None:
    """Write the sample, in place of an earlier one.

    Args:
        directory: A data directory of its own, as OpenCode's; what is in it is removed.
        now: The sample ends on this day (UTC).
    """
    shutil.rmtree(directory, ignore_errors=True)
    today = now.astimezone(UTC).date()
    # Not for secrets: the same day has to make the same sample.
    writer = _Writer(directory, random.Random(today.toordinal()))  # noqa: S311 - as said
    first = datetime.combine(today - timedelta(days=_DAYS - 1), time(8), tzinfo=UTC)
    writer.put("project", {"id": _PROJECT_ID, "worktree": _WORKTREE, "vcs": "git", "name": "shop", "time": {"created": _ms(first)}})
    for day in range(_DAYS):
        start = _ms(first + timedelta(days=day))
        if (first + timedelta(days=day)).weekday() >= _SATURDAY and day % 2:
            continue
        for number in range(writer.random.randint(1, 3)):
            at = start + number * 3 * _HOUR_MS
            model: _Model = writer.random.choices((_SONNET, _OPUS, _GPT), (6, 1, 2))[0]
            title = _TITLES[(day + number) % len(_TITLES)]
            session_id = _session(writer, at, title, model, calls=writer.random.randint(4, 14))
            if number == 0 and day % 4 == 1:
                _session(writer, at + 600_000, "look around (@general subagent)", _SONNET, calls=3, parent_id=session_id)
            if number == 0 and day == _DAYS - 4:
                _fork(writer, at + 2 * _HOUR_MS, title)
    _session(writer, _ms(first + timedelta(days=_DAYS - 3)) + 7 * _HOUR_MS, "Try a local model", _LOCAL, calls=2)
    _failed_session(writer, _ms(first + timedelta(days=_DAYS - 2)) + 8 * _HOUR_MS)


def _session(writer: _Writer, at: int, title: str, model: _Model, *, calls: int, parent_id: str | None = None) -> str:
    writer.written.clear()
    session_id = writer.make_id("ses", at)
    agent = "general" if parent_id else "build"
    user = _user_message(writer, session_id, at, title, model, agent)
    context = 9_000
    for call in range(calls):
        at += writer.random.randint(8_000, 40_000)
        context = _call(writer, session_id, at, user["id"], model, agent, context, is_first=call == 0)
    _put_session(writer, session_id, title, user["time"]["created"], at, parent_id)
    return session_id


def _user_message(writer: _Writer, session_id: str, at: int, text: str, model: _Model, agent: str) -> dict[str, Any]:
    message = {
        "id": writer.make_id("msg", at),
        "sessionID": session_id,
        "role": "user",
        "time": {"created": at},
        "agent": agent,
        "model": {"providerID": model[0], "modelID": model[1]},
    }
    writer.message(message)
    writer.part(message, at, "text", text=text)
    return message


def _call(writer: _Writer, session_id: str, at: int, parent_id: str, model: _Model, agent: str, context: int, *, is_first: bool) -> int:
    """Write one call with its parts; return how long the context is after it."""
    chance = writer.random
    fresh = context if is_first else chance.randint(200, 4_000)
    reads = 0 if is_first else context
    is_anthropic = model[0] == "anthropic"
    visible, reasoning = chance.randint(40, 900), chance.randint(100, 1_500) if model is _GPT else 0
    tokens: dict[str, Any] = {
        "input": 4 if is_anthropic else fresh,
        "output": visible + reasoning,
        "reasoning": reasoning,
        "cache": {"read": reads, "write": fresh if is_anthropic else 0},
    }
    # OpenCode 1.1 counts the reasoning inside the output, and bills it once more.
    tokens["total"] = tokens["input"] + reads + tokens["cache"]["write"] + tokens["output"]
    cost = 0.0
    if model[2]:
        price_in, price_read, price_write, price_out = model[2]
        cost = round(
            (
                tokens["input"] * price_in
                + reads * price_read
                + tokens["cache"]["write"] * price_write
                + (visible + 2 * reasoning) * price_out
            )
            / 1e6,
            9,
        )
    message = _assistant_message(writer, session_id, at, parent_id, model, agent)
    writer.part(message, at + 5, "step-start", snapshot=f"{chance.getrandbits(160):040x}")
    if reasoning or (is_anthropic and chance.random() < _THINKS):
        writer.part(message, at + 10, "reasoning", text="The total is rounded too early. " * 8, time={"start": at + 10, "end": at + 900})
    tool, tool_input, output = chance.choice(_TOOLS)
    end = at + chance.randint(1_500, 6_000)
    state: dict[str, Any] = {"status": "completed", "input": tool_input, "output": output, "title": tool, "metadata": {}}
    if chance.random() < _FAILS:
        state = {"status": "error", "input": tool_input, "error": "Error: oldString not found in content"}
    state["time"] = {"start": at + 1_000, "end": end}
    writer.part(message, at + 1_000, "tool", callID=f"call_{chance.getrandbits(64):016x}", tool=tool, state=state)
    writer.part(message, end + 10, "text", text="Done: the cart rounds once, at the end.", time={"start": end + 10, "end": end + 400})
    writer.part(message, end + 500, "step-finish", reason="tool-calls", cost=cost, tokens=tokens)
    message |= {"cost": cost, "tokens": tokens, "finish": "tool-calls"}
    message["time"]["completed"] = end + 510
    writer.message(message)
    return reads + fresh + visible


def _assistant_message(writer: _Writer, session_id: str, at: int, parent_id: str, model: _Model, agent: str) -> dict[str, Any]:
    return {
        "id": writer.make_id("msg", at),
        "sessionID": session_id,
        "role": "assistant",
        "time": {"created": at},
        "parentID": parent_id,
        "providerID": model[0],
        "modelID": model[1],
        "mode": agent,
        "agent": agent,
        "path": {"cwd": _WORKTREE, "root": _WORKTREE},
        "cost": 0,
        "tokens": {"input": 0, "output": 0, "reasoning": 0, "cache": {"read": 0, "write": 0}},
    }


def _put_session(writer: _Writer, session_id: str, title: str, created: int, updated: int, parent_id: str | None = None) -> None:
    record = {
        "id": session_id,
        "slug": "demo",
        "version": "1.1.65",
        "projectID": _PROJECT_ID,
        "directory": _WORKTREE,
        "title": title,
        "time": {"created": created, "updated": updated},
    }
    if parent_id:
        record["parentID"] = parent_id
    writer.put(f"session/{_PROJECT_ID}", record)


def _fork(writer: _Writer, at: int, title: str) -> None:
    """Write a session that begins with copies of the last one: new ids, the old times, tokens and costs."""
    session_id = writer.make_id("ses", at)
    ids = {record["id"]: writer.make_id("msg", at) for kind, record in writer.written if kind == "message"}
    for kind, record in writer.written:
        if kind == "message":
            copy = {**record, "id": ids[record["id"]], "sessionID": session_id}
            writer.put(f"message/{session_id}", copy)
        else:
            copy = {**record, "id": writer.make_id("prt", at), "sessionID": session_id, "messageID": ids[record["messageID"]]}
            writer.put(f"part/{copy['messageID']}", copy)
    user = _user_message(writer, session_id, at + 5_000, "And in the invoice?", _SONNET, "build")
    _call(writer, session_id, at + 9_000, user["id"], _SONNET, "build", 14_000, is_first=False)
    _put_session(writer, session_id, f"{title} (fork #1)", at, at + 20_000)


def _failed_session(writer: _Writer, at: int) -> None:
    """Write a call that the provider refused, and one that was cut off before it ended."""
    session_id = writer.make_id("ses", at)
    user = _user_message(writer, session_id, at, "Summarise the log", _SONNET, "build")
    refused = _assistant_message(writer, session_id, at + 900, user["id"], _SONNET, "build")
    refused["error"] = {"name": "APIError", "data": {"message": "Overloaded", "statusCode": 529, "isRetryable": True}}
    refused["time"]["completed"] = at + 1_700
    writer.message(refused)
    cut_off = _assistant_message(writer, session_id, at + 60_000, user["id"], _SONNET, "build")
    writer.part(cut_off, at + 60_005, "step-start")
    writer.part(cut_off, at + 61_000, "text", text="The log begins with", time={"start": at + 61_000})
    writer.message(cut_off)
    _put_session(writer, session_id, "Summarise the log", at, at + 62_000)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
