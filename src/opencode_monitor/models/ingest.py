"""What was read from where, and what could not be read."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base


class KnownSource(Base):
    """One place that holds OpenCode data, on one machine of one user.

    Attributes:
        state: What the reader tells by that nothing in it has changed since it was last read to its end; None until an import of it
            has come to its end.
    """

    __tablename__ = "sources"

    source_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    path: Mapped[str]
    host: Mapped[str]
    username: Mapped[str]
    first_imported_at: Mapped[datetime]
    last_imported_at: Mapped[datetime]
    state: Mapped[str | None]


class IngestedSession(Base):
    """How far one session of one source is read: written in the transaction that wrote its rows, so a crash leaves both or neither.

    Attributes:
        signature: The reader's stamp of the session at that time; while it stays, nothing is read again.
        records: How many records the source held for it.
        source_rank: How good the form is in which the source held it; of several sources, the best form is read, then the one changed last.
        changed_at: When it had changed last at the source.
        gone_at: When an import first found it gone from the source; its rows stay.
    """

    __tablename__ = "source_sessions"

    source_id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(primary_key=True)
    signature: Mapped[str]
    records: Mapped[int]
    imported_at: Mapped[datetime]
    source_rank: Mapped[int | None] = mapped_column(Integer)
    changed_at: Mapped[datetime | None]
    gone_at: Mapped[datetime | None]


class GoneMessage(Base):
    """One message that an import found deleted at its source: it was billed, and its rows stay.

    A table of its own, as marks come and go, and DuckDB cannot take a column of an indexed table back.
    """

    __tablename__ = "gone_messages"

    message_id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str]
    gone_at: Mapped[datetime]


class OmittedText(Base):
    """How long the texts of a part were that an import without content left out: carried costs are shared by that.

    Attributes:
        written_chars: What was written for it: the text, the thinking, a tool's arguments.
        output_chars: What a tool answered, or the error that it ended in.
    """

    __tablename__ = "omitted_texts"

    part_id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str]
    written_chars: Mapped[int]
    output_chars: Mapped[int]


class ImportIssue(Base):
    """One record that could not be read as it stands; the list shows what is wrong now, not what once was."""

    __tablename__ = "import_issues"

    issue_id: Mapped[str] = mapped_column(primary_key=True)
    source_id: Mapped[str]
    session_id: Mapped[str | None]
    record: Mapped[str]
    reason: Mapped[str]
    seen_at: Mapped[datetime]
