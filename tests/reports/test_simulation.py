"""What docs/reports.md says of detectors and forecast holds, on a small part of the simulation in benchmarks/."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from opencode_monitor.reports.detectors import Detector, Settings
from opencode_monitor.reports.forecast import Horizon

SIMULATION: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/judgement.py"))
SEASONS = {name: season for name, season in SIMULATION["SEASONS"].items() if name not in SIMULATION["BEYOND"]}
SEED = 9_000


@pytest.fixture(scope="module")
def shares() -> dict[Detector, tuple[float, float, float]]:
    """False alarms, detection of +4 x and of +1.5 x, over all seasons."""
    found = {}
    for detector in Detector:
        rates = SIMULATION["Rates"]()
        for season in SEASONS.values():
            rates.add(SIMULATION["measure_days"](season, Settings(detector=detector), histories=2, seed=SEED))
        found[detector] = rates.shares()
    return found


def test_robust_finds_runaways_and_hardly_alarms_without(shares: dict[Detector, tuple[float, float, float]]) -> None:
    false, found, _ = shares[Detector.ROBUST]

    assert false <= 0.03
    assert found >= 0.99


def test_robust_alarms_less_than_the_others(shares: dict[Detector, tuple[float, float, float]]) -> None:
    assert shares[Detector.ROBUST][0] < shares[Detector.SIGMA][0] < shares[Detector.RATIO][0]


def test_likely_range_holds_what_comes_about_as_often_as_it_says() -> None:
    coverage = SIMULATION["Coverage"]()
    for name, season in SEASONS.items():
        if not season.outliers:
            coverage.add(SIMULATION["measure_forecast"](season, Horizon.MONTH_END, histories=2, seed=SEED + len(name)))

    inside, error, line = coverage.shares()

    assert 0.7 <= inside <= 0.92  # some hundred forecasts tell it to five points
    assert error < line
