"""What each tool takes: flat, short, and safe for every model (no `$ref`, no `anyOf`, no nested objects)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from taskqueue_mcp.errors import InvalidInput

if TYPE_CHECKING:
    from pydantic_core.core_schema import WithDefaultSchema

ADDED_BY_CLIENTS = frozenset({"wait_for_previous"})


def _list(value: Any) -> Any:
    """Read a list from a list, JSON text, or words with commas between them."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                return value
        else:
            value = [word.strip() for word in value.split(",") if word.strip()]
    if isinstance(value, list):
        return [str(item) if isinstance(item, int | float) and not isinstance(item, bool) else item for item in value]
    return value


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


TEXT = WithJsonSchema({"type": "string"})
Text = Annotated[str | None, BeforeValidator(_text), TEXT]
Json = Annotated[Any, WithJsonSchema({"type": "string"})]
Whole = Annotated[int | None, WithJsonSchema({"type": "integer"})]
Number = Annotated[float | None, WithJsonSchema({"type": "number"})]
Words = Annotated[
    list[str] | None, BeforeValidator(_list), WithJsonSchema({"type": "array", "items": {"type": "string"}})
]
Things = Annotated[
    list[Any] | None, BeforeValidator(_list), WithJsonSchema({"type": "array", "items": {"type": "string"}})
]
TaskId = Annotated[str, BeforeValidator(_text), Field(description="T-142")]
Lease = Annotated[str, Field(description="from claim_task")]


DETAILS = (
    "summary", "full", "instructions", "params", "procedure", "inputs", "result", "attempts", "questions", "events",
    "log",
)  # fmt: skip
"""The parts of a task that get_task shows."""


def _enum(*values: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(values)})


Choice = str | None
"""A word of a fixed set: the service says which when it is another one."""


class Arguments(BaseModel):
    """The arguments of one tool; an unknown one is refused by name."""

    model_config = ConfigDict(extra="forbid")


class TaskArguments(Arguments):
    """What create_task and schedule_task share."""

    instructions: Text = Field(None, description="what to do, complete: the worker sees only this")
    task_type: Text = Field(None, description="e.g. report_generation, shell, code_review")
    params: Json = Field(None, description="JSON object, inputs of the task")
    sop: Text = Field(None, description="procedure, e.g. inventory/low_stock_calculation.md")
    template: Text = Field(None, description="named template to fill")
    variables: Json = Field(None, description="JSON object for {{variables}}")
    queue: Text = Field(None, description="default: default")
    priority: Annotated[Choice, _enum("low", "medium", "high", "urgent")] = None


class CreateTask(TaskArguments):
    """Arguments of `create_task`."""

    title: Annotated[str, Field(description="a few words")]
    run_at: Text = Field(None, description="ISO 8601 or a wait such as 10m; default now")
    depends_on: Words = Field(None, description="task ids that must complete first; their results are handed over")
    tags: Words = None
    idempotency_key: Text = Field(None, description="same key, same task: set it, then retry safely")
    requires_approval: bool = Field(default=False, description="a person must approve before it runs")
    requested_by: Text = Field(None, description="end user you speak for")
    lease: Text = Field(None, description="your lease, to make a child of the task you work on")
    options: Json = Field(
        None,
        description="JSON object: executor, output {format,path,filename_pattern}, "
        "outputs [{path,min_rows,columns,json_schema,sql}] to be checked, timeout_seconds, "
        "budget_usd (or _turns, _minutes), max_attempts, serial_key, on_dependency_failure, notify, plan, metadata, "
        "only_if {source,sql}|{command}",
    )


class ScheduleTask(TaskArguments):
    """Arguments of `schedule_task`."""

    name: Annotated[str, Field(description="unique; the same name edits")]
    cron: Annotated[str, Field(description="'0 7 * * *', '@daily'; a sixth field is seconds")]
    timezone: Text = Field(None, description="IANA, e.g. Europe/Berlin; default this machine's")
    misfire: Annotated[Choice, _enum("coalesce", "skip", "all")] = Field(
        None, description="missed runs; default coalesce into one"
    )
    overlap: Annotated[Choice, _enum("skip", "queue_one", "allow", "cancel_previous")] = Field(
        None, description="when the last run is unfinished; default skip"
    )
    enabled: bool | None = Field(None, json_schema_extra={"type": "boolean"})
    title: Text = None
    options: Json = Field(None, description="as in create_task, and budget_usd_per_day")


class ListTasks(Arguments):
    """Arguments of `list_tasks`."""

    status: Text = Field(None, description="one or several, or open, final, all; default all")
    task_type: Text = None
    queue: Text = None
    tag: Text = None
    search: Text = Field(None, description="words in title, instructions, result")
    created_by: Text = None
    limit: Whole = Field(None, description="default 20, most 100")
    cursor: Text = Field(None, description="next_cursor of the last page")


class CancelTask(Arguments):
    """Arguments of `cancel_task`."""

    task_id: TaskId
    reason: Text = None


class ManageSchedule(Arguments):
    """Arguments of `manage_schedule`."""

    action: Annotated[
        Literal["list", "preview", "pause", "resume", "run_now", "delete", "history"],
        WithJsonSchema(
            {"type": "string", "enum": ["list", "preview", "pause", "resume", "run_now", "delete", "history"]}
        ),
    ]
    name: Text = Field(None, description="which one (not for list)")


class AnswerTask(Arguments):
    """Arguments of `answer_task`."""

    task_id: TaskId
    action: Annotated[
        Literal["approve", "reject", "answer", "retry", "run_now"],
        WithJsonSchema({"type": "string", "enum": ["approve", "reject", "answer", "retry", "run_now"]}),
    ]
    answer: Text = Field(None, description="the answer, or why rejected")


class ListReady(Arguments):
    """Arguments of `list_ready`."""

    queue: Text = None
    task_type: Text = None
    limit: Whole = Field(None, description="default 20, most 100")
    cursor: Text = None


class ClaimTask(Arguments):
    """Arguments of `claim_task`."""

    worker: Text = Field(None, description="your name, always the same: a lost claim comes back to it")
    task_id: Text = Field(None, description="only this one")
    queues: Words = None
    task_types: Words = Field(None, description="types you take, or executor:NAME")
    wait_seconds: Number = Field(None, description="park until a task arrives, most 50; default 0")
    lease_seconds: Whole = Field(None, description="default 900; any update_task renews it")
    claim_id: Text = Field(None, description="for programs: the same id returns the same claim")
    cursor: Text = Field(None, description="from the last empty answer")


class UpdateTask(Arguments):
    """Arguments of `update_task`."""

    lease: Lease
    progress: Number = Field(None, description="percent")
    message: Text = Field(None, description="what you are doing")
    log: Text = Field(None, description="lines for the log")
    artifact: Json = Field(None, description="path of a file you made, or JSON with path, size, sha256")
    question: Text = Field(None, description="asks a person; ends your attempt, the answer comes with a later claim")
    extend_seconds: Whole = Field(None, description="lease length from now on")
    usage: Json = Field(None, description="JSON, in all so far: cost_usd, tokens, turns, session_id, account")
    seq: Whole = Field(None, description="for programs: number of this update, to repeat it safely")


class CompleteTask(Arguments):
    """Arguments of `complete_task`."""

    lease: Lease
    result_summary: Text = Field(None, description="what was done, for the person who asked")
    result_path: Text = Field(None, description="main file, relative to the output folder")
    result_data: Json = Field(None, description="JSON result, handed to tasks that depend on this one")
    artifacts: Things = Field(None, description="other files: paths, or JSON {path, content} for text up to 64 KiB")
    usage: Json = Field(None, description="as in update_task")
    evidence: Json = Field(None, description="for programs")


class FailTask(Arguments):
    """Arguments of `fail_task`."""

    lease: Lease
    error_log: Text = Field(None, description="what went wrong, so that the next attempt can do better")
    kind: Annotated[Choice, _enum("error", "permanent", "quota", "snooze", "release")] = Field(
        None,
        description="default error; only error and permanent cost an attempt",
    )
    resume_at: Text = Field(None, description="for quota and snooze: ISO 8601 or a wait such as 30m")
    usage: Json = None


class GetTask(Arguments):
    """Arguments of `get_task`."""

    task_id: TaskId
    wait_seconds: Number = Field(None, description="park until it is final or needs a person, most 50; default 0")
    detail: Annotated[
        Choice,
        _enum(*DETAILS),
    ] = Field(None, description="default full; the others page one part")
    cursor: Text = Field(None, description="from the last answer: waits for any change since, or pages on")


def read(model: type[Arguments], given: dict[str, Any]) -> Any:
    """Return checked arguments.

    Raises:
        InvalidInput: with every fault, naming the arguments there are.
    """
    cleaned = {key: value for key, value in given.items() if value is not None and key not in ADDED_BY_CLIENTS}
    try:
        return model.model_validate(cleaned)
    except ValidationError as error:
        faults = [_fault(fault) for fault in error.errors(include_url=False, include_input=False)]
        known = ", ".join(model.model_fields)
        raise InvalidInput(f"{'; '.join(faults)}. Arguments: {known}") from None


def _fault(fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    match fault["type"]:
        case "extra_forbidden":
            return f"unknown argument {ascii(where)[:60]}"
        case "missing":
            return f"{where} is missing"
        case _:
            return f"{where}: {fault['msg']}"


class _WithoutDefaults(GenerateJsonSchema):
    """Leaves defaults out: they say nothing here, and each of them would cost a schema of its own."""

    def default_schema(self, schema: WithDefaultSchema) -> JsonSchemaValue:
        """Return what the schema is without its default."""
        return self.generate_inner(schema["schema"])


def schema(model: type[Arguments]) -> dict[str, Any]:
    """Return the JSON schema that clients are shown, without titles, nulls and defaults that say nothing."""
    full = model.model_json_schema(schema_generator=_WithoutDefaults)
    properties = {}
    for name, field in full["properties"].items():
        shown = {key: value for key, value in field.items() if key != "title"}
        if "anyOf" in shown:
            shown.pop("anyOf")
        properties[name] = shown
    required = full.get("required", [])
    ordered = {name: properties[name] for name in [*required, *(key for key in properties if key not in required)]}
    # Not `additionalProperties: false`: google-genai fails on it, and unknown arguments are refused by name anyway.
    found: dict[str, Any] = {"type": "object", "properties": ordered}
    if required:
        found["required"] = required
    return found
