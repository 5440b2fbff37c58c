"""What may be spent unless a task says otherwise. 0 is no ceiling."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from taskqueue_mcp.settings.kinds import Words

Amount = Annotated[float, Field(ge=0, lt=1_000_000, allow_inf_nan=False)]


class BudgetSettings(BaseModel):
    """Ceilings of a task, of a day and of queues for a day, in US dollars, turns and minutes."""

    model_config = ConfigDict(extra="forbid")

    executors: Words = Field(default_factory=lambda: ["claude"])
    task_usd: Amount = 5.0
    task_turns: Amount = 0.0
    task_minutes: Amount = 0.0
    day_usd: Amount = 50.0
    day_turns: Amount = 0.0
    day_minutes: Amount = 0.0
    queue_usd: dict[str, Amount] = Field(default_factory=dict)
    queue_turns: dict[str, Amount] = Field(default_factory=dict)
    queue_minutes: dict[str, Amount] = Field(default_factory=dict)
