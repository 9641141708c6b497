"""What migrations did to the data, with the proof."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Double, text
from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base


class MigrationAudit(Base):
    """One checksum of the old table's rows, before or after a revision that moves them.

    Attributes:
        audit_id: `<revision>:<direction>:<phase>:<time>`.
        direction: upgrade or downgrade.
        phase: before (the table that the data leaves) or after (the same rows, read back from where they went).
        row_count: How many rows.
        fingerprint: For each column how many values are not NULL, and their checksum.
        seconds: How long computing it took, the move included where the phase is after.
        program_version: Which release moved the data.
    """

    __tablename__ = "migration_audit"

    audit_id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[str]
    direction: Mapped[str]
    phase: Mapped[str]
    table_name: Mapped[str]
    row_count: Mapped[int]
    fingerprint: Mapped[dict[str, Any]]
    seconds: Mapped[float] = mapped_column(Double)
    program_version: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
