"""What migrations did to the data, with the proof."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Double, text
from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base


class MigrationAudit(Base):
    """One table's rows and checksums, before or after a revision that moves rows.

    Attributes:
        audit_id: `<revision>:<direction>:<phase>:<table>:<time>`.
        direction: upgrade or downgrade.
        phase: before or after; "made" and "dropped" for a table that only one of the two has, of which the rows are counted.
        table_name: The table; `parts` before and after are the rows of the 29 columns, in the old table or read back from the new ones.
        row_count: How many rows it held.
        fingerprint: For each column how many values are not NULL, and their checksum; over the rows that the move has to leave as they are.
        seconds: From the start of the revision to here.
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
