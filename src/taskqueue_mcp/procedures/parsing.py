"""What a procedure's file says. Pure: text in, a `Procedure` or its faults out."""

from __future__ import annotations

import hashlib
import re

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.procedures import blocks, front_matter, layout
from taskqueue_mcp.procedures.params import declared, fill_params
from taskqueue_mcp.procedures.procedure import Output, Param, Procedure, SqlBlock, TemplateBlock
from taskqueue_mcp.procedures.references import LARGEST, tidy

__all__ = ["Output", "Param", "Procedure", "SqlBlock", "TemplateBlock", "fill_params", "parse"]


def parse(path: str, text: str) -> Procedure:
    """Take a procedure's text apart; pure, so that a worker can do it with the text that came with its claim.

    Raises:
        InvalidInput: all faults of the text in one line, the path first.
    """
    path = tidy(path)
    faults: list[str] = []
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{path}: holds half a surrogate pair; save it as UTF-8") from None
    if len(data) > LARGEST or "\0" in text:
        why = "holds a NUL character" if "\0" in text else f"has {len(data):,} bytes; {LARGEST:,} are allowed"
        raise InvalidInput(f"{path}: {why}")
    raw, body, body_line = front_matter.split(path, text)
    fenced = blocks.fenced(body, body_line, faults)
    sql = blocks.sql_blocks(fenced, faults)
    templates = blocks.template_blocks(fenced, faults) if sql else ()
    raw.setdefault("title", _first_heading(body))
    front = front_matter.validated(raw, faults)
    params = () if front is None else tuple(declared(front.params, faults))
    if front is not None and front.report is not None:
        faults.extend(layout.faults(front.report, [block.sheet for block in sql]))
    if faults or front is None:
        raise InvalidInput(f"{path}: {'; '.join(faults)}")
    return Procedure(
        path=path,
        text=text,
        body=body,
        sha256=hashlib.sha256(data).hexdigest(),
        params=params,
        output=front.output,
        outputs=tuple(front.outputs),
        tools=tuple(front.tools),
        report=front.report,
        sql_blocks=sql,
        templates=templates,
        **front.model_dump(exclude={"params", "output", "outputs", "tools", "report"}),
    )


def _first_heading(body: str) -> str | None:
    found = re.search(r"^# +(.+?) *#*$", body, re.MULTILINE)
    return found[1] if found else None
