"""${message}.

What, why, and what becomes of rows that do not fit: say it here. Import nothing of the application: a revision is frozen history. A
revision that moves data refuses, expands and moves; the next one contracts. `downgrade()` restores all that it can and says what it cannot.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Created: ${create_date}
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
