"""The tables at head, as SQLAlchemy models."""

from opencode_monitor.db.base import Base
from opencode_monitor.models.adjustments import PriceAdjustment, ProviderBilling
from opencode_monitor.models.alerts import AlertDeliveryRow, AlertStateRow
from opencode_monitor.models.audit import MigrationAudit
from opencode_monitor.models.budgets import BudgetRow
from opencode_monitor.models.carried import CarriedCost
from opencode_monitor.models.ingest import GoneMessage, ImportIssue, IngestedSession, KnownSource, OmittedText
from opencode_monitor.models.metrics import SessionResourceMetrics, SessionStats
from opencode_monitor.models.parts import (
    PART_SUBTYPES,
    Attachment,
    Compaction,
    ErrorEvent,
    FileOperation,
    Part,
    PartSubtype,
    Patch,
    StepEvent,
    TextMessage,
    ThinkingBlock,
    ToolCall,
)
from opencode_monitor.models.pricing import ModelAlias, ModelPricing, PriceChange, PricePeriodRow, PriceRun, PriceSource
from opencode_monitor.models.unrecorded import UnrecordedCall
from opencode_monitor.models.usage import CostBasis, Message, Model, Project, Session

__all__ = [
    "PART_SUBTYPES",
    "AlertDeliveryRow",
    "AlertStateRow",
    "Attachment",
    "Base",
    "BudgetRow",
    "CarriedCost",
    "Compaction",
    "CostBasis",
    "ErrorEvent",
    "FileOperation",
    "GoneMessage",
    "ImportIssue",
    "IngestedSession",
    "KnownSource",
    "Message",
    "MigrationAudit",
    "Model",
    "ModelAlias",
    "ModelPricing",
    "OmittedText",
    "Part",
    "PartSubtype",
    "Patch",
    "PriceAdjustment",
    "PriceChange",
    "PricePeriodRow",
    "PriceRun",
    "PriceSource",
    "Project",
    "ProviderBilling",
    "Session",
    "SessionResourceMetrics",
    "SessionStats",
    "StepEvent",
    "TextMessage",
    "ThinkingBlock",
    "ToolCall",
    "UnrecordedCall",
]
