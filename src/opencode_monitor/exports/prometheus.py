"""What was spent so far, for Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/.

Everything is a gauge, although most of it only grows: pricing anew or a statement of the user's may lower a sum. Of a counter, Prometheus
would take that for a restart, and count the whole sum once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from opencode_monitor.metrics.measures import MEASURES, TOKEN_MEASURES
from opencode_monitor.repositories import CostNumber, CostRepository, ImportIssueRepository
from opencode_monitor.repositories.usage import SourceRepository

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric
    from sqlalchemy.orm import Session as DatabaseSession

    from opencode_monitor.repositories import ProjectModelUsage

_LABELS = ("provider", "model", "project")
_COSTS = {
    CostNumber.LIST: "Cost at list price, USD; calls without a price are left out.",
    CostNumber.REPORTED: "Cost as OpenCode stored it, USD; calls without one are left out.",
    CostNumber.PAID: "Cost out of pocket by the user's statements, USD, without flat fees; calls of which it is unknown are left out.",
}
_COUNTS = ("calls", *(number.unknown_field for number in CostNumber), "unrecorded_calls")


def prometheus_text(session: DatabaseSession) -> str:
    """Return all sums of the database in Prometheus' text format.

    Args:
        session: Where to ask.

    Returns:
        The text. Labels are provider, model and project; no session, title or path but a project's own, where it has no name.
    """
    registry = CollectorRegistry()
    registry.register(_Spend(session))
    return generate_latest(registry).decode()


class _Spend(Collector):
    def __init__(self, session: DatabaseSession) -> None:
        self._session = session

    def collect(self) -> Iterator[Metric]:
        """Yield each gauge with its samples; an unknown cost has none."""
        rows = CostRepository(self._session).by_project_and_model()
        for number, text in _COSTS.items():
            name = "cost" if number is CostNumber.LIST else f"{number}_cost"
            known = [(row, cost) for row in rows if (cost := getattr(row, number.field)) is not None]
            yield _gauge(f"opencode_{name}_usd", text, [(_labels(row), float(cost)) for row, cost in known])
        tokens = GaugeMetricFamily("opencode_tokens", "Tokens, in five disjoint buckets.", labels=[*_LABELS, "type"])
        for row in rows:
            for name in TOKEN_MEASURES:
                tokens.add_metric([*_labels(row), name.removesuffix("_tokens")], getattr(row, name))
        yield tokens
        for name in _COUNTS:
            yield _gauge(f"opencode_{name}", MEASURES[name].text, [(_labels(row), getattr(row, name)) for row in rows])
        issues = ImportIssueRepository(self._session).count()
        yield GaugeMetricFamily("opencode_import_issues", "Records that are not as they should be.", value=issues)
        last = SourceRepository(self._session).last_imported_at()
        if last is not None:
            yield GaugeMetricFamily("opencode_last_import_timestamp_seconds", "When data was imported last.", value=last.timestamp())


def _gauge(name: str, text: str, samples: Sequence[tuple[Sequence[str], float]]) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=_LABELS)
    for labels, value in samples:
        gauge.add_metric(labels, value)
    return gauge


def _labels(row: ProjectModelUsage) -> tuple[str, str, str]:
    provider, _, _ = row.model.partition("/")
    return provider, row.model, row.project
