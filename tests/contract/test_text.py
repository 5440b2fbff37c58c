"""Text comes back as it went in: any Unicode, up to the last byte; NUL and lone surrogates are refused."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskqueue_mcp.checks import document, text
from taskqueue_mcp.errors import InvalidInput
from tests.contract.desk import OWNER, Desk

if TYPE_CHECKING:
    from tests.clock import Clock

TEXTS = {
    "german": "Größe prüfen, 3 € pro Stück",
    "decomposed": unicodedata.normalize("NFD", "Größe prüfen"),
    "chinese": "在庫を数える 庫存",
    "arabic": "عد المخزون",
    "emoji": "🦊👩‍👩‍👧‍👦 🇩🇪",
    "astral": "\U0001f600\U0010ffff",
    "noncharacters": "\ufffe\uffff\ufeff",
    "controls": "tab\tbell\x07escape\x1b[31m line\r\n\u2028 \x7f\x85",
    "quotes": """it's "so" -- ; DROP TABLE tasks; %s {now} {{x}} :name ?1 \\""",
    "blanks": "  two  blanks  ",
}


POISON = ["\0", "a\0b", "\ud800", "\udfff", "a\udc80b", "\ud83e"]


@pytest.mark.parametrize("name", list(TEXTS))
async def test_text_comes_back_as_it_went_in(desk: Desk, name: str) -> None:
    written = TEXTS[name]
    task = await desk.create(
        f"title {written} end", instructions=written, params={"key " + written: written}, by=OWNER,
        options={"metadata": [written]},
    )  # fmt: skip
    claim = await desk.take()
    assert claim.task.title == f"title {written} end"
    assert claim.body.instructions == written
    assert json.loads(claim.body.params or "") == {"key " + written: written}
    assert json.loads(claim.body.metadata or "") == [written]
    await desk.update(claim, message=written[:2_000], log=written)
    await desk.complete(claim, written, result_data=json.dumps(written, ensure_ascii=False))
    detail = await desk.detail(task)
    assert (detail.task.result_summary, detail.task.message) == (written, written)
    assert detail.result_data == json.dumps(written, ensure_ascii=False)
    assert (await desk.queue.logs(OWNER, task.id))[0].text == written


@pytest.mark.parametrize("letter", ["x", "é", "界", "🦊"])
async def test_256_kib_come_back_as_they_went_in(desk: Desk, letter: str) -> None:
    instructions = letter * ((262_144 - 5) // len(letter.encode()))
    task = await desk.create("title", instructions=instructions)
    assert (await desk.detail(task)).body.instructions == instructions
    data = json.dumps(letter * ((262_144 - 2) // len(letter.encode())), ensure_ascii=False)
    await desk.complete(await desk.take(), result_data=data)
    assert (await desk.detail(task)).result_data == data


@pytest.mark.parametrize("poison", POISON)
async def test_what_is_no_text_is_refused_everywhere(desk: Desk, poison: str) -> None:
    claim = await desk.start()
    before = await desk.snapshot()
    calls = [
        desk.create(poison),
        desk.create("x", instructions=poison),
        desk.create("x", params={"a": [poison]}),
        desk.create("x", params={poison: 1}),
        desk.create("x", params=json.dumps({"a": poison})),
        desk.create("x", variables={"a": poison}),
        desk.create("x", tags=(poison,)),
        desk.create("x", options={"metadata": poison}),
        desk.create("x", options={"output": {"path": poison}}),
        desk.create("x", options={"serial_key": poison}),
        desk.create("x", requested_by=poison),
        desk.create("x", idempotency_key=poison),
        desk.update(claim, message=poison),
        desk.update(claim, log=poison),
        desk.update(claim, question=poison),
        desk.update(claim, artifact={"path": poison}),
        desk.update(claim, artifact={"path": "a", "sha256": poison}),
        desk.update(claim, usage={"model": poison}),
        desk.complete(claim, poison),
        desk.complete(claim, result_path=poison),
        desk.complete(claim, result_data=poison),
        desk.complete(claim, result_data=json.dumps(poison)),
        desk.complete(claim, result_data={"a": {"b": [poison]}}),
        desk.fail(claim, poison),
        desk.cancel(claim, poison),
        desk.decide(claim, "answer", poison),
        desk.template(poison, title="x"),
        desk.template("x", title=poison),
        desk.plan("x", "@daily", title=poison),
        desk.plan(poison, "@daily"),
        desk.claim(worker=poison),
        desk.claim(claim_id=poison),
        desk.claim(queues=(poison,)),
    ]
    for call in calls:
        with pytest.raises(InvalidInput):
            await call
    assert await desk.snapshot() == before


@settings(max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_passes_unchanged(written: str) -> None:
    assert text("instructions", written) == written


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8), inner, max_size=4
        ),
        max_leaves=20,
    ).filter(lambda value: value is not None and not isinstance(value, str))
)  # fmt: skip
def test_any_json_passes_unchanged(value: object) -> None:
    written = document("params", value, 32)
    assert json.loads(written or "") == value
    assert document("params", written, 32) == written


async def test_json_text_is_not_rewritten(desk: Desk, clock: Clock) -> None:
    task = await desk.create(params='{"b":1.0,\n "a":"\\u00e9"}', run_at="in 1 hour")
    assert json.loads((await desk.detail(task)).body.params or "") == {"b": 1.0, "a": "é"}
    clock.advance(3_600)
    await desk.complete(await desk.take(), result_data='{"b":1.0,\n "a":"\\u00e9"}')
    assert (await desk.detail(task)).result_data == '{"b":1.0,\n "a":"\\u00e9"}'
