"""What OpenCode sessions cost, out of a database of your own.

    from opencode_monitor import CostRepository, open_database

    with open_database()() as session:
        for row in CostRepository(session).by_model():
            print(row.model, row.cost_usd)

Names are imported when first used, so that a command that needs none of them starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from opencode_monitor._version import __version__

if TYPE_CHECKING:
    from opencode_monitor.database import open_database
    from opencode_monitor.pricing.cost import calculate_cost
    from opencode_monitor.repositories import (
        AttributionRepository,
        CarriedRepository,
        CostRepository,
        MessageRepository,
        MetricsRepository,
        PartRepository,
        PricingRepository,
        SessionRepository,
    )

_HOMES = {
    "open_database": "opencode_monitor.database",
    "calculate_cost": "opencode_monitor.pricing.cost",
    "AttributionRepository": "opencode_monitor.repositories",
    "CarriedRepository": "opencode_monitor.repositories",
    "CostRepository": "opencode_monitor.repositories",
    "MessageRepository": "opencode_monitor.repositories",
    "MetricsRepository": "opencode_monitor.repositories",
    "PartRepository": "opencode_monitor.repositories",
    "PricingRepository": "opencode_monitor.repositories",
    "SessionRepository": "opencode_monitor.repositories",
}

__all__ = [
    "AttributionRepository",
    "CarriedRepository",
    "CostRepository",
    "MessageRepository",
    "MetricsRepository",
    "PartRepository",
    "PricingRepository",
    "SessionRepository",
    "__version__",
    "calculate_cost",
    "open_database",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    return value
