"""What each tool can be asked. A word that is not known is refused: a filter that is not applied would make a wrong sum."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_Limit = Annotated[int, Field(ge=1, le=200)]


class Nothing(BaseModel):
    """The arguments of a tool that has none."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


class Cost(Nothing):
    """Which of the three numbers is meant.

    Attributes:
        cost: At list price, as OpenCode stored it, or out of pocket; the user's setting where absent.
    """

    cost: Annotated[
        Literal["list", "reported", "paid"] | None,
        Field(description="Which number: list price, what OpenCode reported, or paid out of pocket. Default: the user's setting."),
    ] = None


class Range(Cost):
    """Which calls are looked at; the words are those of the command line.

    Attributes:
        last: A length of time that ends today.
        since: The first day or time.
        until: The last day, which is included, or a time.
    """

    last: Annotated[
        str | None, Field(description="A length of time that ends today: 7d, 30d, 12w, 3m, 1y, mtd (this month), ytd, all. Not with since.")
    ] = None
    since: Annotated[
        str | None, Field(description="The first day: 2026-10-01, today, yesterday, monday, 7d (ago), or a time: 2026-10-01T14:00.")
    ] = None
    until: Annotated[str | None, Field(description="The last day, included; the same words as for since.")] = None


class SummaryArguments(Range):
    """The arguments of `summary`."""

    by: Annotated[Literal["model", "agent", "project"], Field(description="What the rows are told apart by.")] = "model"
    limit: Annotated[_Limit, Field(description="At most so many rows, the most expensive first; the totals have everything.")] = 10


class TrendArguments(Range):
    """The arguments of `trend`."""

    every: Annotated[Literal["day", "week", "month"], Field(description="How long a period is; weeks begin on Monday.")] = "day"


class TopSessionsArguments(Range):
    """The arguments of `top_sessions`."""

    sort: Annotated[Literal["cost", "tokens", "started"], Field(description="Most first; started: latest first.")] = "cost"
    limit: Annotated[_Limit, Field(description="At most so many sessions; the totals have all.")] = 10


class SessionArguments(Cost):
    """The arguments of `session`."""

    session_id: Annotated[str, Field(min_length=1, description="The session's id, such as ses_5e1f..., or the beginning of it.")]
    limit: Annotated[_Limit, Field(description="At most so many messages, the most expensive first.")] = 10


class AnomaliesArguments(Range):
    """The arguments of `anomalies`."""

    by: Annotated[
        Literal["total", "project", "model", "agent", "session"],
        Field(description="What is judged: all spend, each project, model or agent by its own history, or sessions among each other."),
    ] = "total"
    sensitivity: Annotated[Literal["low", "medium", "high"], Field(description="How strict the rule is.")] = "medium"
    min_usd: Annotated[str, Field(description="Leave out what is less above the expected, in USD.")] = "1"
    limit: Annotated[_Limit, Field(description="At most so many findings, the largest impact first.")] = 10
