"""The revision `price_history` with rows in the tables that it changes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from opencode_monitor.db.engine import create_database_engine
from opencode_monitor.db.migrate import downgrade, upgrade

pytestmark = pytest.mark.usefixtures("kept_open")

PERIOD = (
    "INSERT INTO price_periods (price_id, vendor, model, mode, min_context_tokens, effective_from, input_usd_per_mtok, source, status,"
    " precedence) VALUES ('a/b|standard|0|1970-01-01|user', 'a', 'b', 'standard', 0, '1970-01-01', 1.5, 'user', 'confirmed', 100)"
)
ALIAS = "INSERT INTO model_aliases (model_id, price_vendor, price_model, source) VALUES ('c/d', 'a', 'b', 'user')"


@pytest.fixture
def url(empty_database_url: str) -> str:
    """A database before the revision, with a price and an alias."""
    upgrade(empty_database_url, "import_state")
    _run(empty_database_url, PERIOD, ALIAS)
    return empty_database_url


def _run(url: str, *statements: str) -> list[Any]:
    engine = create_database_engine(url)
    rows: list[Any] = []
    with engine.begin() as connection:
        for statement in statements:
            result = connection.execute(sa.text(statement))
            rows = [tuple(row) for row in result.all()] if statement.startswith("SELECT") else []
    engine.dispose()
    return rows


def test_upgrade_existing_rows_were_recorded_before_all_others_and_mean_the_standard_mode(url: str) -> None:
    upgrade(url, "price_history")

    assert _run(url, "SELECT price_id, input_usd_per_mtok, recorded_at FROM price_periods") == [
        ("a/b|standard|0|1970-01-01|user", Decimal("1.5"), None)
    ]
    assert _run(url, "SELECT model_id, price_vendor, price_model, source, mode FROM model_aliases") == [("c/d", "a", "b", "user", None)]
    assert _run(url, "SELECT count(*) FROM price_sources") == [(0,)]


def test_downgrade_keeps_prices_and_aliases_and_upgrades_again(url: str) -> None:
    upgrade(url, "price_history")
    _run(
        url,
        "UPDATE price_periods SET recorded_at = '2026-05-04 12:00:00'",
        "UPDATE model_aliases SET mode = 'batch'",
        "INSERT INTO price_runs VALUES ('20260504T120000Z', '2026-05-04', '', 'all', 1, 0, 1, NULL)",
        "INSERT INTO price_changes VALUES ('20260504T120000Z', 'prt_1', 'ses_1', 'c/d', NULL, 'x', NULL, 1)",
    )

    downgrade(url, "import_state")
    kept = _run(url, "SELECT price_id, effective_from, input_usd_per_mtok FROM price_periods")
    aliases = _run(url, "SELECT * FROM model_aliases")
    upgrade(url, "price_history")

    assert kept == [("a/b|standard|0|1970-01-01|user", datetime(1970, 1, 1), Decimal("1.5"))]  # noqa: DTZ001 - UTC without a zone
    assert aliases == [("c/d", "a", "b", "user")]
    assert _run(url, "SELECT recorded_at FROM price_periods") == [(None,)]
    assert _run(url, "SELECT count(*) FROM price_runs") == [(0,)]
