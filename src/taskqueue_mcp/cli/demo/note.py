"""The script of the model that plays Claude's in the demo: it writes a note from what its prompt holds, and says so."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from taskqueue_mcp.cli.demo.processes import DemoFailed
from taskqueue_mcp.sample.scripted_model import Call, Say, ScriptedModel

if TYPE_CHECKING:
    from taskqueue_mcp.sample.scripted_model import Heard

Json = dict[str, Any]

RESULTS: Final = re.compile(r"<<<FENCE (\w+) \| data: result of [^>]*>>>\n(.*?)\n<<<END \1>>>", re.DOTALL)
HEAD: Final = """\
# What to order

{products} products are below their reorder point and sell well. All of it costs {total_cost:,.2f}.

| SKU | packs | units | cost |
|---|---:|---:|---:|
"""
LINE: Final = "| {sku} | {packs} | {order_quantity} | {order_cost:,.2f} |\n"


def model() -> ScriptedModel:
    """Return the model, to be served."""
    return ScriptedModel(
        Call("Write", _write, say="I have the rows and the calculation, so I write the note."),
        Say(lambda heard: "The note is written: {products} orders, {total_cost:,.2f} in all.".format(**_orders(heard))),
    )


def _write(heard: Heard) -> Json:
    orders = _orders(heard)
    lines = (LINE.format(**each) for each in orders["lines"])
    return {"file_path": heard.file_asked_for, "content": HEAD.format(**orders) + "".join(lines)}


def _orders(heard: Heard) -> Json:
    """What the calculation came to, as the prompt has it."""
    for _, text in RESULTS.findall(heard.prompt):
        found = json.loads(text).get("result_data") or {}
        found = found.get("result", found)
        if "lines" in found:
            return dict(found)
    raise DemoFailed("the prompt does not hold what the calculation came to")
