"""Where a database stands in the revision history, without importing Alembic: reports start in a fraction of the second it takes."""

from __future__ import annotations

import sqlalchemy as sa

from opencode_monitor.db.engine import mask_url
from opencode_monitor.errors import SchemaError

REVISIONS = (
    "baseline",
    "resource_metrics",
    "migration_audit",
    "denormalize_parts",
    "call_accounting",
    "import_state",
    "price_history",
    "paid_costs",
    "carried_costs",
    "unrecorded_calls",
    "source_marks",
    "source_state",
    "tool_facts",
    "call_facts",
    "omitted_texts",
    "budgets",
    "alert_states",
)
"""The linear history, oldest first; a test holds it against the revision files."""

HEAD_REVISION = REVISIONS[-1]


def current_revision(connection: sa.Connection) -> str | None:
    """Return the revision that a database stands at, or None for one that was never migrated."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision


def require_head(connection: sa.Connection) -> None:
    """Refuse a database that is not at the revision that this program needs.

    Args:
        connection: Any connection to it.

    Raises:
        SchemaError: It is behind (the message says what to run) or ahead (upgrade the program).
    """
    found = current_revision(connection)
    if found == HEAD_REVISION:
        return
    if found is None:
        database = mask_url(connection.engine.url)
        raise SchemaError(f"no schema in {database}.", hint="Run: opencode-monitor db upgrade && opencode-monitor import")
    if found in REVISIONS:
        backup = "a backup is made first" if connection.dialect.name == "duckdb" else "make a backup first: pg_dump"
        raise SchemaError(f"schema is {found}, this version needs {HEAD_REVISION}.", hint=f"Run: opencode-monitor db upgrade ({backup})")
    raise newer_schema(found)


def newer_schema(found: str) -> SchemaError:
    """Return the error of a database at a revision that this program does not know."""
    return SchemaError(
        f"schema {found} is newer than this program (head {HEAD_REVISION}).", hint="Upgrade the program; nothing was changed."
    )
