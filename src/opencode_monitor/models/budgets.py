"""What the user wants to spend at most."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Mapped, mapped_column

from opencode_monitor.db.base import Base


class BudgetRow(Base):
    """An amount for each day, week or month, of all calls or of those that match every pattern.

    Attributes:
        budget_name: What the user calls it.
        every: day, week or month.
        cost_number: Which of the three numbers counts: list, reported or paid.
        project_glob: A pattern for the project's name; NULL for every project.
        model_glob: A pattern for the model's id, or without a slash for what stands after its vendor; NULL for every model.
        agent_glob: A pattern for the agent's name; NULL for every agent.
        note: Why, in the user's words.
        recorded_at: When it was said.
    """

    __tablename__ = "budgets"

    budget_name: Mapped[str] = mapped_column(primary_key=True)
    budget_usd: Mapped[Decimal]
    every: Mapped[str]
    cost_number: Mapped[str]
    project_glob: Mapped[str | None]
    model_glob: Mapped[str | None]
    agent_glob: Mapped[str | None]
    note: Mapped[str | None]
    recorded_at: Mapped[datetime]
