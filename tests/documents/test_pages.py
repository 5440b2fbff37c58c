"""Reports as html and Markdown: what they show, what they never do, and templates of the owner's."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from taskqueue_mcp.errors import InvalidInput
from taskqueue_mcp.outputs.documents import rendering
from taskqueue_mcp.outputs.documents.rendering import Template, TemplateFailed
from tests.documents.conftest import HOSTILE

if TYPE_CHECKING:
    from taskqueue_mcp.outputs.documents.document import Document

VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """The elements of a page, its text, and whether everything opened was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page_of(document: Document, template: str | None = None) -> Page:
    text = rendering.html(document, None if template is None else Template(template, 10, "x.md"))
    page = Page(text)
    assert page.open == []
    return page


def test_a_report_shows_figures_charts_tables_and_totals(document: Document) -> None:
    page = page_of(document)

    for words in (
        "Week ending 2026-11-15",
        "Revenue € 4,200.00 ▲ +5.2 % on the week before",
        "Coffee 1,200 € 5,123.40",
        "\N{MINUS SIGN}€ 923.40",
        "Total 1,520",
        "The first 3 of 7 rows ; the totals are of all of them.",
        "no rows",
        "Procedure reports/weekly.md",
    ):
        assert words.replace(" ;", ";") in page.words.replace(" ;", ";"), words
    assert page.tags.count("table") == 3
    assert page.tags.count("svg") == 1
    assert ("class", "number") in page.attributes


def test_nothing_in_a_report_is_ever_more_than_text(document: Document) -> None:
    page = page_of(document)

    assert "script" not in page.tags
    assert page.words.count(HOSTILE) >= 8
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_a_page_asks_nothing_of_any_server(document: Document) -> None:
    page = page_of(document)

    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    asked = [value for name, value in page.attributes if name in {"src", "href", "action", "xlink:href"}]
    assert asked == []
    assert (
        "content",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:",
    ) in page.attributes


def test_the_same_report_is_the_same_page_every_time(document: Document) -> None:
    assert rendering.html(document) == rendering.html(document)


# Templates of the owner's.


def test_a_template_is_put_into_the_page_and_may_use_the_parts(document: Document) -> None:
    page = page_of(
        document,
        "<p>Hello {{ params.name }}, {{ task_id }}</p>{{ figures() }}{{ chart(1) }}{{ table('bycategory') }}"
        "{% for row in sheets.ByCategory.rows %}<i>{{ row.category }}: {{ row.revenue|shown }}</i>{% endfor %}",
    )

    assert f"Hello {HOSTILE} , T-142".replace(" ,", ",") in page.words.replace(" ,", ",")
    assert (page.tags.count("svg"), page.tags.count("table"), page.tags.count("i")) == (1, 1, 3)
    assert "Coffee: 5123.4" in page.words
    assert "script" not in page.tags


def test_a_template_may_be_the_whole_page(document: Document) -> None:
    assert rendering.html(document, Template("<!doctype html><p>{{ title }}</p>")) == (
        "<!doctype html><p>Weekly sales &lt;script&gt;alert(1)&lt;/script&gt;</p>"
    )
    extended = rendering.html(
        document, Template("{% extends 'report.html' %}{% block heading %}<h1>Mine</h1>{% endblock %}")
    )
    assert "<h1>Mine</h1>" in extended
    assert "<table>" in extended


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("\n{{ nothing }}", "x.md, line 12: the template is wrong: 'nothing' is undefined"),
        ("\n\n{% for %}", "x.md, line 13: the template is wrong: Expected an expression"),
        ("{{ sheets.Nowhere.rows }}", "x.md, line 11: the template is wrong: 'dict object' has no attribute 'Nowhere'"),
        ("{{ table('Nowhere') }}", "there is no sheet 'Nowhere'; there is ByCategory, Grouped, Empty"),
        ("{{ chart(2) }}", "there is no chart 2; the procedure's report.charts has 1"),
        ("{{ 1 / 0 }}", "x.md, line 11: the template is wrong: division by zero"),
        ("\n{{ title|nosuchfilter }}", "x.md, line 12: the template is wrong: No filter named 'nosuchfilter'"),
        ("{{ sheets.ByCategory.rows[99] }}", "x.md, line 11: the template is wrong"),
        ("{{ title + 1 }}", "x.md, line 11: the template is wrong"),
        ("{% include '/etc/passwd' %}", "the template is wrong: there is no template '/etc/passwd'"),
        ("{% include '../style.css' %}", "the template is wrong: there is no template '../style.css'"),
    ],
)
def test_what_is_wrong_with_a_template_is_one_line_with_its_place(
    document: Document, template: str, expected: str
) -> None:
    with pytest.raises(TemplateFailed) as failed:
        page_of(document, template)

    assert expected in str(failed.value)
    assert "\n" not in str(failed.value)
    assert isinstance(failed.value, InvalidInput)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ table.__globals__ }}",
        "{{ chart.__func__ }}",
        "{{ document.values }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__['os'].environ }}",
        "{{ '{0.__class__}'.format(title) }}",
        "{{ params.update({'a': 1}) }}",
        "{{ sheet_list[0].__dict__ }}",
        "{% for x in range(1000000000) %}{{ x }}{% endfor %}",
        "{{ params|attr('__class__') }}",
    ],
)
def test_a_template_reaches_nothing_but_the_report(document: Document, template: str) -> None:
    with pytest.raises(TemplateFailed, match=r"^x\.md, line 11: the template "):
        page_of(document, template)


def test_a_template_that_never_ends_is_ended_when_nobody_wants_it(document: Document) -> None:
    class Enough(Exception):
        pass

    looks = 0

    def wanted() -> None:
        nonlocal looks
        looks += 1
        if looks > 1_000:
            raise Enough

    endless = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
    with pytest.raises(Enough):
        rendering.html(document, Template(endless), wanted=wanted)


def test_a_page_has_a_largest_size(document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "LARGEST", 1_000)

    with pytest.raises(TemplateFailed, match="the page is over 1,000 characters"):
        rendering.html(document, Template("{% for a in range(9999) %}xxxxxxxxxxxx{% endfor %}"))


# Markdown.


def test_markdown_has_tables_that_a_reader_renders_as_such(document: Document) -> None:
    text = rendering.md(document)
    page = Page(MarkdownIt("commonmark").enable("table").render(text))

    assert page.tags.count("table") == 3
    assert "script" not in page.tags
    assert f"Weekly sales {HOSTILE}" in page.words
    assert "Paper | pulp" in page.words
    assert re.search(r"^\| Coffee +\| +1,200 \| +€ 5,123\.40 \|$", text, re.MULTILINE)
    assert re.search(r"^\| \*\*Total\*\* +\| +\*\*1,520\*\* \|", text, re.MULTILINE)
    assert "The first 3 of 7 rows." in text


def test_markdown_takes_a_template_too(document: Document) -> None:
    text = rendering.md(document, Template("# {{ title }}\n\n{{ table('ByCategory') }}\n{{ figures() }}"))

    assert text.startswith("# Weekly sales &lt;script&gt;")
    assert "| Coffee" in text
    assert "- Revenue: **€ 4,200.00**" in text


@pytest.mark.parametrize(
    "cell",
    [
        "*bold*",
        "[x](javascript:alert(1))",
        "<b>",
        "# heading",
        "- item",
        "1. item",
        "a|b",
        "`code`",
        "&lt;",
        "![x](http://a)",
    ],
)
def test_no_cell_means_anything_in_markdown(cell: str) -> None:
    from taskqueue_mcp.outputs.documents.markdown import escaped  # noqa: PLC0415 - beside its only use

    page = Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(escaped(cell)))

    assert page.tags == ["p"]
    assert page.words == cell
