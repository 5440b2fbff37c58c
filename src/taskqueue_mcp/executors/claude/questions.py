"""What a person is asked on the way, and what the answers that came with an attempt mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLAN: Final = "This is the plan."
BUDGET: Final = "The budget is used up:"
SPENT: Final = "The account cannot pay:"
LONGEST_PLAN: Final = 9_000

_YES: Final = re.compile(
    r"(?:yes|y|ok|okay|approve|approved|go|go on|go ahead|continue|do it|carry it out|ja|lgtm)[.! ]*", re.IGNORECASE
)
_NO: Final = re.compile(r"(?:no|n|stop|reject|rejected|cancel|abort|nein|end)\b", re.IGNORECASE)
_MORE: Final = re.compile(r"\+?\s*\$?\s*(\d+(?:[.,]\d+)?)")


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a person said to a plan: `comment` is None where the answer was a plain yes or no."""

    plan: str
    is_yes: bool
    comment: str | None = None


def about_plan(plan: str) -> str:
    """Return the question whether a plan may be carried out."""
    cut = plan if len(plan) <= LONGEST_PLAN else f"{plan[:LONGEST_PLAN]}\n… (whole in the artifact)"
    return f"{PLAN} Answer `yes` to have it carried out, `no` to end the task, or say what to change.\n\n{cut}"


def about_budget(spent: float, budget: float, kept: Sequence[str], *, is_counted: bool = False) -> str:
    """Return the question whether more may be spent; `is_counted` where the queue counts and asks for itself."""
    files = f" What there is so far is kept: {', '.join(kept)}." if kept else ""
    if is_counted:
        return f"{BUDGET} Claude stopped.{files}"
    return f"{BUDGET} ${spent:.2f} of ${budget:.2f}.{files} Answer `continue with +X` (in US dollars), or `stop`."


def about_payment(account: str, why: str) -> str:
    """Return the question that a spending limit leaves to a person: waiting does not mend it."""
    return (
        f"{SPENT} {why} (account {account}). Raise the limit or add credit, then answer `continue`; or answer `stop`."
    )


def plan_answered(answers: Sequence[Mapping[str, Any]]) -> Agreed | None:
    """Return what was said to the last plan, None where none was shown or nothing was said to it."""
    for each in reversed(answers):
        question, answer = str(each.get("question", "")), str(each.get("answer") or "").strip()
        if question.startswith(PLAN):
            plan = question.partition("\n\n")[2]
            if not answer:
                return None
            if _YES.fullmatch(answer):
                return Agreed(plan, is_yes=True)
            return Agreed(plan, is_yes=False, comment=None if _NO.fullmatch(answer.rstrip(".! ")) else answer)
    return None


def granted(answers: Sequence[Mapping[str, Any]], budget: float) -> float | None:
    """Return how many dollars persons added to `budget` at its ceiling; None where one said to stop."""
    extra = 0.0
    for each in answers:
        answer = str(each.get("answer") or "").strip()
        if not str(each.get("question", "")).startswith((BUDGET, SPENT)) or not answer:
            continue
        if _NO.match(answer):
            return None
        if str(each.get("question", "")).startswith(BUDGET):
            amount = _MORE.search(answer)
            extra += float(amount[1].replace(",", ".")) if amount else (budget if _YES.fullmatch(answer) else 0.0)
    return extra
