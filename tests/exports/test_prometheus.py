from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from opencode_monitor.exports.prometheus import BudgetUse, prometheus_text
from opencode_monitor.models import KnownSource
from opencode_monitor.testing.builders import NOON, SONNET, Step, add_call, add_project, add_session, settle

if TYPE_CHECKING:
    from sqlalchemy.orm import Session as DatabaseSession

HOSTILE = 'sh"op\\\n{x}'


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Read the text by Prometheus' own parser."""
    return {
        family.name: [(dict(sample.labels), sample.value) for sample in family.samples] for family in text_string_to_metric_families(text)
    }


def test_prometheus_text_sums_by_provider_model_and_project(session: DatabaseSession) -> None:
    add_project(session, name=HOSTILE)
    add_session(session, project_id="prj_1")
    add_call(session, "msg_1", steps=[Step(1_000, 2_000, 3_000, 100, 5)])
    add_call(session, "msg_2", model_id="acme/unknown", steps=[Step(7)])
    session.add(
        KnownSource(source_id="src_1", kind="json", path="/x", host="h", username="u", first_imported_at=NOON, last_imported_at=NOON)
    )
    settle(session)

    found = samples(prometheus_text(session))

    sonnet = {"provider": "anthropic", "model": SONNET, "project": HOSTILE}
    unknown = {"provider": "acme", "model": "acme/unknown", "project": HOSTILE}
    # 1,000 x 3 + 2,000 x 0.3 + 3,000 x 3.75 + 105 x 15 USD per million.
    assert found["opencode_cost_usd"] == [(sonnet, 0.016425)]
    assert found["opencode_paid_cost_usd"] == [(sonnet, 0.016425)]
    assert found["opencode_reported_cost_usd"] == []
    assert [value for labels, value in found["opencode_tokens"] if labels["model"] == SONNET] == [1_000, 2_000, 3_000, 100, 5]
    assert found["opencode_calls"] == [(unknown, 1), (sonnet, 1)]
    assert found["opencode_unpriced_calls"] == [(unknown, 1), (sonnet, 0)]
    assert found["opencode_import_issues"] == [({}, 0)]
    assert found["opencode_last_import_timestamp_seconds"] == [({}, NOON.timestamp())]


def test_prometheus_text_budgets_have_their_amount_and_what_is_known_to_be_spent(session: DatabaseSession) -> None:
    budgets = [BudgetUse("all", "month", Decimal(200), Decimal("12.5")), BudgetUse(HOSTILE, "day", Decimal(5), None)]

    found = samples(prometheus_text(session, budgets))

    monthly, daily = {"budget": "all", "every": "month"}, {"budget": HOSTILE, "every": "day"}
    assert found["opencode_budget_usd"] == [(monthly, 200), (daily, 5)]
    assert found["opencode_budget_spent_usd"] == [(monthly, 12.5)]


def test_prometheus_text_empty_database_has_no_samples_of_spend(session: DatabaseSession) -> None:
    found = samples(prometheus_text(session))

    assert found["opencode_cost_usd"] == found["opencode_calls"] == []
    assert "opencode_last_import_timestamp_seconds" not in found
