"""What an executor is, and how a worker finds the one it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest
from pydantic import BaseModel, Field

from taskqueue_mcp.errors import InvalidInput, SettingsRefused
from taskqueue_mcp.executors.base import Executor, Params, Registry, Run, validate_params
from taskqueue_mcp.executors.shell import Shell
from taskqueue_mcp.model import Completed, Outcome

if TYPE_CHECKING:
    from tests.executors.conftest import MakeRun


class EchoParams(Params):
    text: str
    times: int = Field(default=1, ge=1, le=9)


class Echo(Executor[EchoParams]):
    name: ClassVar[str] = "echo"
    params = EchoParams

    async def run(self, params: EchoParams, run: Run) -> Outcome:
        return Completed(summary=params.text * params.times, data={"task": run.task_id})


class Nameless(Echo):
    name = ""


class Wide(Echo):
    name = "wide"
    params = BaseModel  # type: ignore[assignment]  # what the registry has to notice


async def test_an_executor_runs_on_validated_parameters(make_run: MakeRun) -> None:
    echo = Registry([Echo(), Shell()])["echo"]

    outcome = await echo.run(validate_params(echo, {"text": "a", "times": 3}), make_run())

    assert outcome == Completed(summary="aaa", data={"task": 142})


def test_a_registry_is_a_mapping_in_the_order_given() -> None:
    registry = Registry([Shell(), Echo()])

    assert list(registry) == ["shell", "echo"]
    assert len(registry) == 2
    assert registry.get("none") is None


def test_all_faults_of_a_registry_stop_the_program_at_once() -> None:
    with pytest.raises(SettingsRefused) as refused:
        Registry([Echo(), Echo(), Nameless(), Wide()])

    message = str(refused.value)
    assert "two executors are called echo (Echo and Echo)" in message
    assert "Nameless has no name" in message
    assert "executor wide: its `params` must be a class derived from Params" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, "params of echo: text is missing; it takes text, times"),
        ({"text": "a", "colour": 1}, "params of echo: colour is unknown; it takes text, times"),
        ({"text": "a", "times": 0}, "params of echo: times: input should be greater than or equal to 1;"),
        ({"times": "many"}, "text is missing; times: input should be a valid integer"),
        ({"text": "a", "x\ny": 1}, "'x\\ny' is unknown"),
    ],
)
def test_bad_parameters_are_named_in_one_line_with_those_there_are(raw: dict[str, object], expected: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        validate_params(Echo(), raw)

    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_value_of_a_bad_parameter_is_not_repeated() -> None:
    with pytest.raises(InvalidInput) as refused:
        validate_params(Echo(), {"text": ["canary"], "times": "canary"})

    assert "canary" not in str(refused.value)
