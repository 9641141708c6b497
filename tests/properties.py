"""How many examples a property gets that is tried on a database, where one takes a hundred times as long as in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    Test = Callable[..., None]


def on_database(max_examples: int) -> Callable[[Test], Test]:
    """Try a property on the one database of its test.

    Args:
        max_examples: How many examples it gets with `--full`; without, half of them.
    """
    is_full = settings.get_current_profile_name() == "full"
    examples = settings(
        max_examples=max_examples if is_full else (max_examples + 1) // 2,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )

    def decorate(test: Test) -> Test:
        return pytest.mark.sized(examples(test))

    return decorate
