"""What an attempt used: added up over the processes of its session, each counted once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taskqueue_mcp.executors.claude.session import Ended


@dataclass(slots=True)
class Usage:
    """Money in US dollars, time in seconds; `session` is the one that a later attempt goes on with."""

    account: str
    session: str | None = None
    model: str | None = None
    cost_usd: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    turns: int = 0
    seconds: float = 0.0
    spent_before: float = 0.0
    """What the earlier attempts have cost."""
    _known: dict[str, float] = field(default_factory=dict)

    def know(self, earlier: Sequence[Mapping[str, Any]]) -> None:
        """Note what the sessions of earlier attempts have cost: a session that goes on counts from there."""
        for each in earlier:
            usage = each.get("usage") or {}
            session = str(usage.get("session_id"))
            cost = float(usage.get("cost_usd") or 0.0)
            self._known[session] = self._known.get(session, 0.0) + cost
            self.spent_before += cost

    def add(self, ended: Ended) -> None:
        """Count one process."""
        heard, self.seconds = ended.heard, self.seconds + ended.seconds
        self.session, self.model = heard.session or self.session, heard.model or self.model
        result = heard.result
        if result is None:
            return
        self.turns += int(result.get("num_turns") or 0)
        self.cost_usd += self._cost(result)
        tokens = result.get("usage") or {}
        cached = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        self.input_tokens += sum(int(tokens.get(key) or 0) for key in cached)
        self.output_tokens += int(tokens.get("output_tokens") or 0)

    def _cost(self, result: Mapping[str, Any]) -> float:
        """What this process cost: a session's own total goes on from the process before."""
        models = result.get("model_usage_since_last_result")
        if isinstance(models, dict) and models:
            return sum(float(each.get("costUSD") or 0.0) for each in models.values())
        session, total = str(result.get("session_id")), float(result.get("total_cost_usd") or 0.0)
        cost = max(0.0, total - self._known.get(session, 0.0))
        self._known[session] = self._known.get(session, 0.0) + cost
        return cost

    def told(self) -> dict[str, Any]:
        """Return it as an outcome has it."""
        told: dict[str, Any] = {
            "account": self.account,
            "cost_usd": round(self.cost_usd, 6),
            "tokens": self.input_tokens + self.output_tokens,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "turns": self.turns,
            "duration_seconds": round(self.seconds, 3),
        }
        return told | {
            key: value for key, value in (("session_id", self.session), ("model", self.model)) if value is not None
        }
