"""Sessions for tests of carried cost: written as rows, and kept as a list of events that a reference can walk along."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from opencode_monitor.models import Compaction, ErrorEvent, Message, Part, Session, StepEvent, TextMessage, ToolCall
from opencode_monitor.testing.builders import NOON, SONNET, add_model

if TYPE_CHECKING:
    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.models import Base

Buckets = tuple[int, int, int, int, int]
"""Input, cache read, cache write, output, reasoning."""


@dataclass(slots=True)
class Piece:
    """A part with its length in characters, without the output and with it."""

    part_id: str
    written: int
    output: int = 0
    pruned_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call, before what it produced."""

    at: datetime
    model_id: str
    buckets: Buckets
    parent: str | None
    is_copy: bool


@dataclass(frozen=True, slots=True)
class Restart:
    """The user message that asks for a compaction."""

    message_id: str


@dataclass(slots=True)
class Conversation:
    """One session that grows event by event."""

    session_id: str = "ses_1"
    events: list[Piece | Call | Restart] = field(default_factory=list)
    rows: list[list[Base]] = field(default_factory=lambda: [[], [], [], []])
    models: set[str] = field(default_factory=set)
    minute: int = 0
    parts: int = 0

    def __post_init__(self) -> None:
        """Begin with the session's own row."""
        self.rows[0].append(Session(session_id=self.session_id, created_at=NOON, title="never shown"))

    @property
    def now(self) -> datetime:
        return NOON + timedelta(minutes=self.minute)

    def user(self, characters: int, *, ignored: bool = False) -> str:
        """Say something."""
        message_id = self._message("user")
        part_id = self._text(message_id, "user", characters, extra={"ignored": True} if ignored else None)
        self.events.append(Piece(part_id, 0 if ignored else characters))
        return part_id

    def compact(self) -> str:
        """Ask for a compaction, which the call with this parent answers."""
        message_id = self._message("user")
        part_id = self._part(message_id, "compaction")
        self.rows[3].append(Compaction(compaction_id=part_id, part_id=part_id, session_id=self.session_id, auto=True))
        self.events.append(Restart(message_id))
        return message_id

    def call(
        self,
        *steps: tuple[Buckets, tuple[tuple[Any, ...], ...]],
        model_id: str = SONNET,
        parent: str | None = None,
        is_copy: bool = False,
    ) -> list[str]:
        """Answer in steps, each with its buckets and its pieces; return the pieces' ids.

        A piece is ("text", characters), ("thinking", characters), ("tool_call", characters of arguments, of result) or ("failed", of
        arguments, of the error).
        """
        made: list[str] = []
        self.models.add(model_id)
        message_id = self._message("assistant", model_id, [buckets for buckets, _ in steps], parent, is_copy=is_copy)
        for buckets, pieces in steps:
            self.events.append(Call(self.now, model_id, buckets, parent, is_copy))
            for piece in pieces:
                made.append(self._piece(message_id, *piece))
                self.events.append(Piece(made[-1], piece[1], *piece[2:]))
            finish = self._part(message_id, "step_finish")
            usage = dict(
                zip(("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"), buckets, strict=True)
            )
            step = {"step_id": finish, "part_id": finish, "session_id": self.session_id, "message_id": message_id, "event": "finish"}
            self.rows[3].append(StepEvent(**step, **usage, model_id=model_id, called_at=self.now))
        return made

    def prune(self, part_id: str) -> None:
        """Take a tool's output out of the context from now on."""
        self.minute += 1
        (piece,) = (event for event in self.events if isinstance(event, Piece) and event.part_id == part_id)
        if piece.pruned_at is not None:
            return
        piece.pruned_at = self.now
        (part,) = (row for row in self.rows[2] if isinstance(row, Part) and row.part_id == part_id)
        part.extra = {"title": "x", "pruned_at_ms": int(self.now.timestamp() * 1000)}

    def write(self, database: DatabaseSession) -> None:
        """Store it, parents before children."""
        for model_id in self.models:
            add_model(database, model_id)
        for rows in self.rows:
            database.add_all(rows)
            database.flush()

    def _message(
        self,
        role: str,
        model_id: str | None = None,
        steps: list[Buckets] | None = None,
        parent: str | None = None,
        *,
        is_copy: bool = False,
    ) -> str:
        self.minute += 1
        message_id = f"msg_{self.session_id}_{self.minute:04d}"
        sums = [sum(step[bucket] for step in steps) for bucket in range(5)] if steps else [None] * 5
        self.rows[1].append(
            Message(
                message_id=message_id,
                session_id=self.session_id,
                role=role,
                agent="build",
                model_id=model_id,
                parent_message_id=parent,
                created_at=self.now,
                completed_at=self.now,
                input_tokens=sums[0],
                cache_read_tokens=sums[1],
                cache_write_tokens=sums[2],
                output_tokens=sums[3],
                reasoning_tokens=sums[4],
                call_count=len(steps or ()),
                copied_from="msg_of_another_session" if is_copy else None,
            )
        )
        return message_id

    def _part(self, message_id: str, part_type: str, **fields: Any) -> str:
        self.parts += 1
        part_id = f"prt_{self.session_id}_{self.parts:04d}"
        own = {"part_id": part_id, "message_id": message_id, "part_type": part_type, "sequence_number": self.parts}
        self.rows[2].append(Part(session_id=self.session_id, created_at=self.now, **own, **fields))
        return part_id

    def _text(self, message_id: str, role: str, characters: int, extra: dict[str, Any] | None = None) -> str:
        written = characters if role == "assistant" else None
        part_id = self._part(message_id, "text", written_chars=written, extra=extra)
        own = {"message_id": part_id, "part_id": part_id, "session_id": self.session_id}
        self.rows[3].append(TextMessage(**own, role=role, content="é" * characters))
        return part_id

    def _piece(self, message_id: str, kind: str, characters: int, output: int = 0) -> str:
        if kind == "text":
            return self._text(message_id, "assistant", characters)
        if kind == "thinking":
            return self._part(message_id, "thinking", written_chars=characters, content="t" * characters)
        part_id = self._part(message_id, "tool_call", written_chars=characters)
        own = {"part_id": part_id, "session_id": self.session_id}
        arguments: Any = "a" * (characters - 2) if characters else None  # as JSON it has two quotes more
        result = "r" * output if kind == "tool_call" else None
        status = "success" if kind == "tool_call" else "error"
        self.rows[3].append(ToolCall(tool_call_id=part_id, **own, tool_name="read", tool_args=arguments, tool_result=result, status=status))
        if kind == "failed":
            self.rows[3].append(ErrorEvent(error_id=part_id, **own, error_data={}, error_message="e" * output))
        return part_id
