"""A claim as it came over the wire: what it holds, and how what was cut from it is fetched."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskqueue_mcp.worker.connection import Connection

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """A task in our hands, as plain JSON; `is_cut` says that long texts of it have to be fetched."""

    lease: str
    task: Json
    procedure: Json | None
    inputs: tuple[Json, ...]
    earlier_attempts: tuple[Json, ...]
    answers: tuple[Json, ...] = ()
    is_cut: bool = False

    @property
    def name(self) -> str:
        """The task as people know it, such as `T-142`."""
        return str(self.task["id"])

    @property
    def number(self) -> int:
        """The task's number."""
        return int(self.name.removeprefix("T-"))

    @property
    def attempt(self) -> int:
        """Which attempt of the task this is, from 1."""
        return int(self.task["attempt"])

    @property
    def params(self) -> Json:
        """The task's parameters."""
        found = self.task.get("params") or {}
        return dict(json.loads(found) if isinstance(found, str) else found)


def read(answer: Json) -> Claim | None:
    """Return the claim in an answer of `claim_task`, or None where nothing was ready."""
    task = answer.get("task")
    if task is None:
        return None
    return Claim(
        lease=answer["lease"],
        task=task,
        procedure=answer.get("procedure"),
        inputs=tuple(answer.get("inputs") or ()),
        earlier_attempts=tuple(answer.get("earlier_attempts") or ()),
        answers=tuple(answer.get("answers") or ()),
        is_cut=bool(answer.get("truncated")),
    )


async def whole(connection: Connection, claim: Claim) -> Claim:
    """Return `claim` with the texts that its answer had no room for."""
    if not claim.is_cut:
        return claim
    task, procedure, inputs = dict(claim.task), claim.procedure, claim.inputs
    task["instructions"] = await _part(connection, claim, "instructions")
    if task.get("params") is not None:
        task["params"] = json.loads(await _part(connection, claim, "params"))
    if procedure is not None and procedure.get("text") is not None:
        procedure = {**procedure, "text": await _part(connection, claim, "procedure")}
    if inputs:
        inputs = tuple(
            {"task": each.get("id"), **each} for each in json.loads(await _part(connection, claim, "inputs"))
        )
    earlier, answers = claim.earlier_attempts, claim.answers
    if earlier:
        earlier = tuple(json.loads(await _part(connection, claim, "attempts"))[:-1])
    if answers:
        answers = tuple(json.loads(await _part(connection, claim, "questions")))
    return replace(
        claim, task=task, procedure=procedure, inputs=inputs, earlier_attempts=earlier, answers=answers, is_cut=False
    )


async def _part(connection: Connection, claim: Claim, detail: str) -> str:
    text = ""
    wanted = {"task_id": claim.name, "detail": detail}
    while True:
        page = await connection.call("get_task", wanted)
        text += str(page["text"])
        if page.get("next_cursor") is None:
            return text
        wanted["cursor"] = page["next_cursor"]
