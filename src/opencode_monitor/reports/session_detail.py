"""One session as it went: its messages, and the sub-agents' sessions where messages started them, each with what it cost in all."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from opencode_monitor.repositories import NO_USAGE, CostRepository, MessageRepository, SessionRepository, sum_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.models import Message, Session
    from opencode_monitor.repositories import Usage


@dataclass(slots=True, kw_only=True)
class MessageNode:
    """A message, and what it started.

    Attributes:
        message: The row.
        own: What its calls cost.
        started: The sessions that it started.
        tree: Its own, and all that these cost.
    """

    message: Message
    own: Usage
    started: list[SessionNode] = field(default_factory=list)
    tree: Usage = NO_USAGE

    @property
    def shown_below(self) -> list[SessionNode | MessageNode]:
        """What is shown right below it."""
        return [*self.started]


@dataclass(slots=True, kw_only=True)
class SessionNode:
    """A session, and what is below it.

    Attributes:
        session: The row.
        depth: How many sessions are above it.
        started_by: The message that started it; None where no stored call says which.
        messages: In their order; none where they were not asked for.
        started: The sessions below it that no message is known to have started.
        children: All sessions right below it, oldest first.
        own: What its own messages cost.
        tree: Its own, and all below it.
    """

    session: Session
    depth: int
    started_by: str | None = None
    messages: list[MessageNode] = field(default_factory=list)
    started: list[SessionNode] = field(default_factory=list)
    children: list[SessionNode] = field(default_factory=list)
    own: Usage = NO_USAGE
    tree: Usage = NO_USAGE

    @property
    def shown_below(self) -> list[SessionNode | MessageNode]:
        """What is shown right below it."""
        return [*self.messages, *self.started]

    @property
    def below(self) -> Usage:
        """What all sessions below it cost."""
        return sum_usage(child.tree for child in self.children)

    def walk(self) -> Iterator[SessionNode | MessageNode]:
        """Yield it and all below it, in the order in which they are shown: a message before what it started."""
        waiting: list[SessionNode | MessageNode] = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.shown_below)

    def sessions(self) -> list[SessionNode]:
        """Return it and all sessions below it, each before those below it."""
        found = [self]
        for node in found:
            found += node.children
        return found


def read_session(database: DatabaseSession, root: Session, *, is_tree: bool) -> SessionNode:
    """Read a session and all below it.

    Args:
        database: Where to read.
        root: The session.
        is_tree: Read the messages of the sessions below it too, and hang those sessions under the messages that started them.
    """
    sessions = SessionRepository(database)
    nodes = _place(sessions.tree(root.session_id))
    usage = {row.message_id: row for row in CostRepository(database).by_message(list(nodes))}
    of_sessions: dict[str, list[Usage]] = defaultdict(list)
    for row in usage.values():
        of_sessions[row.session_id].append(row)
    messages: dict[str, MessageNode] = {}
    for message in MessageRepository(database).of_sessions(list(nodes) if is_tree else [root.session_id]):
        messages[message.message_id] = MessageNode(message=message, own=usage.get(message.message_id, NO_USAGE))
        nodes[message.session_id].messages.append(messages[message.message_id])
    starters = sessions.started_by(list(nodes))
    for session_id, node in reversed(list(nodes.items())):
        node.own = sum_usage(of_sessions[session_id])
        node.tree = sum_usage([node.own, *(child.tree for child in node.children)])
    for node in nodes.values():
        for child in node.children:
            child.started_by = starters.get((node.session.session_id, child.session.session_id))
            starter = messages.get(child.started_by or "") if is_tree else None
            (node if starter is None else starter).started.append(child)
    for one in messages.values():
        one.tree = sum_usage([one.own, *(child.tree for child in one.started)])
    return nodes[root.session_id]


def _place(sessions: list[Session]) -> dict[str, SessionNode]:
    """Return the nodes of a tree whose sessions come each before those below it; the first is the root, whatever its own parent is."""
    nodes: dict[str, SessionNode] = {}
    for session in sessions:
        parent = nodes.get(session.parent_session_id or "")
        nodes[session.session_id] = SessionNode(session=session, depth=0 if parent is None else parent.depth + 1)
        if parent is not None:
            parent.children.append(nodes[session.session_id])
    return nodes
