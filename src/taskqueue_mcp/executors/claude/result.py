"""The form in which a session gives its result, and what is made of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jsonschema.validators import validator_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskqueue_mcp.executors.claude.params import ClaudeParams

CRITERION = {
    "type": "object",
    "properties": {
        "number": {"type": "integer", "description": "of the criterion"},
        "is_met": {"type": "boolean"},
        "evidence": {"type": "string", "description": "what you looked at and what it showed"},
    },
    "required": ["number", "is_met", "evidence"],
    "additionalProperties": False,
}


def schema_of(params: ClaudeParams) -> dict[str, Any] | None:
    """Return the form to ask for: the task's own, with an answer to each criterion where there are some."""
    if not params.success_criteria:
        return params.output_schema
    properties: dict[str, Any] = {
        "summary": {"type": "string", "description": "the result in a few sentences, for the person who asked"},
        "criteria": {"type": "array", "items": CRITERION, "minItems": len(params.success_criteria)},
    }
    form: dict[str, Any] = {"type": "object", "properties": properties, "required": ["summary", "criteria"]}
    if params.output_schema is not None:
        # References in it go on from the root, so what they refer to moves there.
        data = copy.deepcopy(params.output_schema)
        for name in ("$defs", "definitions"):
            if name in data:
                form[name] = data.pop(name)
        data.pop("$schema", None)
        properties["data"] = data
        form["required"].append("data")
    return form


@dataclass(frozen=True, slots=True)
class Given:
    """A result; `fault` says in a line why it is none."""

    summary: str
    data: Any = None
    fault: str | None = None


def read(params: ClaudeParams, result: Mapping[str, Any]) -> Given:
    """Return what a session gave, checked once more on our side."""
    text = str(result.get("result") or "").strip()
    form = schema_of(params)
    if form is None:
        return Given(text or "Claude ended without a word")
    given = result.get("structured_output")
    if given is None:
        return Given(text, fault=f"Claude gave no result in the form that was asked for; it said: {_short(text)}")
    wrong = next(iter(validator_for(form)(form).iter_errors(given)), None)
    if wrong is not None:
        place = "/".join(map(str, wrong.absolute_path)) or "it"
        return Given(
            text, fault=f"the result does not have the form that was asked for: {place}: {_short(wrong.message)}"
        )
    if not params.success_criteria:
        return Given(text, given)
    return _answered(params, given)


def _answered(params: ClaudeParams, given: Mapping[str, Any]) -> Given:
    by_number = {each["number"]: each for each in given["criteria"]}
    answers: list[dict[str, Any]] = [
        {"criterion": text, "is_met": found["is_met"], "evidence": found["evidence"]}
        if (found := by_number.get(number))
        else {"criterion": text, "is_met": False, "evidence": "not answered"}
        for number, text in enumerate(params.success_criteria, 1)
    ]
    data: dict[str, Any] = {"criteria": answers}
    if "data" in given:
        data["data"] = given["data"]
    open_ = [f"{_short(each['criterion'])} ({_short(each['evidence'])})" for each in answers if not each["is_met"]]
    fault = f"{len(open_)} of {len(answers)} criteria do not hold: {'; '.join(open_)}" if open_ else None
    return Given(str(given["summary"]), data, fault)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}…"  # noqa: PLR2004 - one readable line
