"""Thin, typed access to the tables: a repository receives a session, refines statements, and never commits."""

from opencode_monitor.repositories.base import Repository
from opencode_monitor.repositories.costs import (
    NO_USAGE,
    CostRepository,
    Interval,
    ModelUsage,
    PeriodUsage,
    SessionUsage,
    TimeRange,
    Usage,
)
from opencode_monitor.repositories.metrics import MetricsRepository
from opencode_monitor.repositories.parts import PartRepository, SubtypeRepository
from opencode_monitor.repositories.pricing import PricingRepository
from opencode_monitor.repositories.unrecorded import NOTHING_UNRECORDED, UnrecordedRepository, UnrecordedSpend
from opencode_monitor.repositories.usage import ImportIssueRepository, MessageRepository, SessionRepository

__all__ = [
    "NOTHING_UNRECORDED",
    "NO_USAGE",
    "CostRepository",
    "ImportIssueRepository",
    "Interval",
    "MessageRepository",
    "MetricsRepository",
    "ModelUsage",
    "PartRepository",
    "PeriodUsage",
    "PricingRepository",
    "Repository",
    "SessionRepository",
    "SessionUsage",
    "SubtypeRepository",
    "TimeRange",
    "UnrecordedRepository",
    "UnrecordedSpend",
    "Usage",
]
