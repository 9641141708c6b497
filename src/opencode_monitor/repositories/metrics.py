"""Aggregates per session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opencode_monitor.models import SessionResourceMetrics, SessionStats
from opencode_monitor.repositories.base import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence


class MetricsRepository(Repository[SessionResourceMetrics]):
    """Tokens and cost per session."""

    model = SessionResourceMetrics

    def most_expensive(self, limit: int = 10) -> Sequence[SessionResourceMetrics]:
        """Return the sessions that cost most, the ones with an unknown cost left out."""
        return self.all(
            self.statement()
            .where(SessionResourceMetrics.total_cost_usd.is_not(None))
            .order_by(SessionResourceMetrics.total_cost_usd.desc(), SessionResourceMetrics.session_id)
            .limit(limit)
        )

    def stats(self, session_id: str) -> SessionStats | None:
        """Return what a session holds, or None."""
        return self.session.get(SessionStats, session_id)
