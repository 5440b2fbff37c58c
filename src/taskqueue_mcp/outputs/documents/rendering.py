"""Documents as pages: Jinja2 in a sandbox, everything escaped, and one readable reason where a template is wrong."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from jinja2 import (
    ChainableUndefined,
    ChoiceLoader,
    DictLoader,
    FunctionLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    Undefined,
)
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.outputs.documents import charts, markdown
from taskqueue_mcp.outputs.documents.document import shown, titled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from taskqueue_mcp.outputs.documents.document import Chart, Document, Sheet

PAGES: Final = "pages"
OWN: Final = "the procedure's template"
LARGEST: Final = 64 * 1024 * 1024
"""Characters that a page may have."""
WHOLE_PAGE: Final = ("{% extends", "{%- extends", "<!doctype", "<html")


@dataclass(frozen=True, slots=True)
class Template:
    """A template of the owner's; `line` is the line of its file above its first one, for what is wrong with it."""

    text: str
    line: int = 0
    file: str = ""


class TemplateFailed(InvalidInput):
    """A template is wrong, or what it asks for is not there."""


def html(
    document: Document,
    template: Template | None = None,
    *,
    paper: bool = False,
    wanted: Callable[[], None] | None = None,
) -> str:
    """Return a whole page that needs nothing from anywhere. `wanted` is called often, and may raise to end it.

    Raises:
        TemplateFailed: the template is wrong, with the line of its file.
    """
    source = None if template is None else _framed(template.text)
    return _rendered("report.html", source, template, _context(document, paper=paper), wanted)


def md(document: Document, template: Template | None = None, *, wanted: Callable[[], None] | None = None) -> str:
    """Return the document as Markdown.

    Raises:
        TemplateFailed: the template is wrong, with the line of its file.
    """
    if template is None:
        return markdown.document(document)
    context = _context(document, paper=False)
    context |= {
        "table": lambda name: Markup(markdown.table(_sheet(document, name))),  # noqa: S704 - escaped by markdown
        "figures": lambda: Markup(markdown.figures(document.figures)),  # noqa: S704 - escaped by markdown
        "chart": lambda _number=1: "",
        "charts": lambda: "",
    }
    return _rendered("", template.text, template, context, wanted)


def page(name: str, context: Mapping[str, Any], *, paper: bool = False) -> str:
    """Return one of our own pages; a key that a mapping does not have is nothing there."""
    return _environment({}, ChainableUndefined).get_template(name).render({**context, **_styles(paper=paper)})


def check(template: Template, kind: str) -> None:
    """Refuse a template that cannot be read at all, without rendering it.

    Raises:
        TemplateFailed: with the line of its file.
    """
    source = _framed(template.text) if kind == "html" else template.text
    try:
        _environment({OWN: source}).get_template(OWN)
    except TemplateError as error:
        raise _failed(error, template) from None


def _framed(text: str) -> str:
    """A piece of a page is put into ours; on its first line, so that the numbers of its lines stay."""
    if text.lstrip().lower().startswith(WHOLE_PAGE):
        return text
    return "{% extends 'page.html' %}{% block content %}" + text + "{% endblock %}"


def _rendered(
    name: str,
    source: str | None,
    template: Template | None,
    context: Mapping[str, Any],
    wanted: Callable[[], None] | None,
) -> str:
    environment = _environment({} if source is None else {OWN: source})
    pieces: list[str] = []
    size = 0
    try:
        for piece in environment.get_template(name if source is None else OWN).generate(context):
            if wanted is not None:
                wanted()
            size += len(piece)
            if size > LARGEST:
                raise TemplateFailed(f"the page is over {LARGEST:,} characters; show fewer rows")
            pieces.append(piece)
    except (
        TemplateError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ) as error:
        if template is None:
            raise
        raise _failed(error, template) from None
    return "".join(pieces)


def _environment(own: dict[str, str], undefined: type[Undefined] = StrictUndefined) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=ChoiceLoader([DictLoader(own), FunctionLoader(_page_source)]),
        autoescape=True,
        undefined=undefined,
        keep_trailing_newline=True,
    )
    environment.filters["shown"] = shown
    environment.filters["titled"] = titled
    return environment


def _page_source(name: str) -> tuple[str, str, None] | None:
    """A page of ours with a file name, by which it is told from the owner's template in a traceback."""
    found = _source(name)
    return None if found is None else (found, f"{PAGES}/{name}", None)


@lru_cache
def _source(name: str) -> str | None:
    found = files(__package__).joinpath(PAGES, name)
    return found.read_text(encoding="utf-8") if "/" not in name and found.is_file() else None


def _styles(*, paper: bool) -> dict[str, Any]:
    sheets = {"style": _source("style.css"), "paper": _source("paper.css") if paper else ""}
    return {name: Markup(text) for name, text in sheets.items()}  # noqa: S704 - our own files


def _context(document: Document, *, paper: bool) -> dict[str, Any]:
    parts: Any = _environment({}).get_template("parts.html").module

    def drawn(chart: Chart) -> Markup:
        return Markup(parts.picture(chart, Markup(charts.svg(chart))))  # noqa: S704 - each part is escaped

    def one_chart(number: int = 1) -> Markup:
        if not 1 <= number <= len(document.charts):
            raise TemplateFailed(
                f"there is no chart {number}; the procedure's report.charts has {len(document.charts)}"
            )
        return drawn(document.charts[number - 1])

    return {
        "title": document.title,
        "subtitle": document.subtitle,
        "description": document.description,
        "landscape": document.landscape,
        "facts": document.facts,
        "figure_list": document.figures,
        "sheet_list": document.sheets,
        "sheets": {sheet.name: _as_data(sheet) for sheet in document.sheets},
        "figures": lambda: Markup(parts.figure_row(document.figures)),  # noqa: S704 - escaped by the macro
        "chart": one_chart,
        "charts": lambda: Markup("").join(drawn(chart) for chart in document.charts),
        "table": lambda name: Markup(parts.sheet_table(_sheet(document, name))),  # noqa: S704 - escaped by the macro
        **document.values,
        **_styles(paper=paper),
    }


def _as_data(sheet: Sheet) -> dict[str, Any]:
    """What a template sees of a sheet: rows as mappings of plain values."""
    names = [column.name for column in sheet.columns]
    return {
        "name": sheet.name,
        "title": sheet.title,
        "count": sheet.count,
        "columns": names,
        "totals": sheet.totals,
        "rows": [dict(zip(names, row, strict=True)) for row in sheet.rows],
    }


def _sheet(document: Document, name: str) -> Sheet:
    for sheet in document.sheets:
        if sheet.name.lower() == str(name).lower():
            return sheet
    there = ", ".join(sheet.name for sheet in document.sheets)
    raise TemplateFailed(f"there is no sheet {str(name)[:40]!a}; there is {there}")


def _failed(error: Exception, template: Template) -> TemplateFailed:
    line = error.lineno if isinstance(error, TemplateSyntaxError) else _line_in_template(error)
    where = f", line {template.line + line}" if line else ""
    why = " ".join((getattr(error, "message", None) or str(error) or type(error).__name__).split())[:300]
    if isinstance(error, TemplateNotFound):
        why = f"there is no template {str(error)[:80]!a} to take in"
    kind = "does what no template may" if isinstance(error, SecurityError) else "is wrong"
    return TemplateFailed(f"{template.file}{where}: the template {kind}: {why}")


def _line_in_template(error: Exception) -> int | None:
    """Jinja2 writes its own lines into the traceback; the innermost one of the owner's template tells."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return lines[-1] if lines else None


def as_json(found: Mapping[str, Any]) -> str:
    """Return plain data as JSON for people: indented, in any script."""
    return json.dumps(found, ensure_ascii=False, indent=2) + "\n"
