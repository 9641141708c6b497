"""Thin, typed access to the tables: a repository receives a session, refines statements, and never commits."""

from opencode_monitor.metrics.usage import CostNumber
from opencode_monitor.repositories.attribution import AttributionRepository, FileUsage, PartTypeUsage, PartUsage, ToolUsage
from opencode_monitor.repositories.base import Repository
from opencode_monitor.repositories.billing import BillingRepository
from opencode_monitor.repositories.budgets import Budget, BudgetRepository, make_budget
from opencode_monitor.repositories.carried import CarriedPart, CarriedRepository, CarriedTotal
from opencode_monitor.repositories.costs import (
    NO_USAGE,
    AgentUsage,
    CostRepository,
    Interval,
    ModelUsage,
    PeriodUsage,
    ProjectModelUsage,
    ProjectUsage,
    SessionUsage,
    TimeRange,
    Usage,
)
from opencode_monitor.repositories.errors import ErrorCount, ErrorRepository
from opencode_monitor.repositories.metrics import MetricsRepository
from opencode_monitor.repositories.parts import PartRepository, SubtypeRepository
from opencode_monitor.repositories.pricing import PricingRepository, ReportedDifference
from opencode_monitor.repositories.rows import Rows
from opencode_monitor.repositories.spend import DaySpend, SpendRepository, SpendRow, SpendScope
from opencode_monitor.repositories.unrecorded import NOTHING_UNRECORDED, UnrecordedRepository, UnrecordedSpend
from opencode_monitor.repositories.usage import ImportIssueRepository, MessageRepository, SessionRepository

__all__ = [
    "NOTHING_UNRECORDED",
    "NO_USAGE",
    "AgentUsage",
    "AttributionRepository",
    "BillingRepository",
    "Budget",
    "BudgetRepository",
    "CarriedPart",
    "CarriedRepository",
    "CarriedTotal",
    "CostNumber",
    "CostRepository",
    "DaySpend",
    "ErrorCount",
    "ErrorRepository",
    "FileUsage",
    "ImportIssueRepository",
    "Interval",
    "MessageRepository",
    "MetricsRepository",
    "ModelUsage",
    "PartRepository",
    "PartTypeUsage",
    "PartUsage",
    "PeriodUsage",
    "PricingRepository",
    "ProjectModelUsage",
    "ProjectUsage",
    "ReportedDifference",
    "Repository",
    "Rows",
    "SessionRepository",
    "SessionUsage",
    "SpendRepository",
    "SpendRow",
    "SpendScope",
    "SubtypeRepository",
    "TimeRange",
    "ToolUsage",
    "UnrecordedRepository",
    "UnrecordedSpend",
    "Usage",
    "make_budget",
]
