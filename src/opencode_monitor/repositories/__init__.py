"""Thin, typed access to the tables: a repository receives a session, refines statements, and never commits."""

from opencode_monitor.metrics.dimensions import CALL_DIMENSIONS, DIMENSIONS, PART_DIMENSIONS, Calendar, Interval
from opencode_monitor.metrics.filters import EVERYTHING, Filters
from opencode_monitor.metrics.measures import MEASURES, CostNumber
from opencode_monitor.metrics.time_range import ALL_TIME, TimeRange
from opencode_monitor.repositories.attribution import AttributionRepository, FileUsage, PartTypeUsage, ToolUsage
from opencode_monitor.repositories.base import Repository
from opencode_monitor.repositories.billing import BillingRepository
from opencode_monitor.repositories.breakdown import BreakdownRepository, PartShare, StepPrice, StepUsage
from opencode_monitor.repositories.budgets import Budget, BudgetRepository, SpendScope, make_budget
from opencode_monitor.repositories.carried import CarriedPart, CarriedRepository, CarriedTotal
from opencode_monitor.repositories.costs import (
    AgentUsage,
    CostRepository,
    MessageUsage,
    ModelUsage,
    PeriodUsage,
    ProjectModelUsage,
    ProjectUsage,
    SessionUsage,
)
from opencode_monitor.repositories.errors import ErrorCount, ErrorRepository
from opencode_monitor.repositories.metrics import MetricsRepository
from opencode_monitor.repositories.orphans import OrphanRepository, OrphanSpend
from opencode_monitor.repositories.parts import PartOutline, PartRepository, SubtypeRepository
from opencode_monitor.repositories.pricing import PricingRepository, ReportedDifference
from opencode_monitor.repositories.row_types import NO_PART_USAGE, NO_USAGE, PartUsage, Usage, sum_usage
from opencode_monitor.repositories.rows import Rows
from opencode_monitor.repositories.spend import DaySpend, SpendRepository, SpendRow
from opencode_monitor.repositories.unrecorded import NOTHING_UNRECORDED, UnrecordedRepository, UnrecordedSpend
from opencode_monitor.repositories.usage import ImportIssueRepository, MessageRepository, SessionRepository

__all__ = [
    "ALL_TIME",
    "CALL_DIMENSIONS",
    "DIMENSIONS",
    "EVERYTHING",
    "MEASURES",
    "NOTHING_UNRECORDED",
    "NO_PART_USAGE",
    "NO_USAGE",
    "PART_DIMENSIONS",
    "AgentUsage",
    "AttributionRepository",
    "BillingRepository",
    "BreakdownRepository",
    "Budget",
    "BudgetRepository",
    "Calendar",
    "CarriedPart",
    "CarriedRepository",
    "CarriedTotal",
    "CostNumber",
    "CostRepository",
    "DaySpend",
    "ErrorCount",
    "ErrorRepository",
    "FileUsage",
    "Filters",
    "ImportIssueRepository",
    "Interval",
    "MessageRepository",
    "MessageUsage",
    "MetricsRepository",
    "ModelUsage",
    "OrphanRepository",
    "OrphanSpend",
    "PartOutline",
    "PartRepository",
    "PartShare",
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
    "StepPrice",
    "StepUsage",
    "SubtypeRepository",
    "TimeRange",
    "ToolUsage",
    "UnrecordedRepository",
    "UnrecordedSpend",
    "Usage",
    "make_budget",
    "sum_usage",
]
