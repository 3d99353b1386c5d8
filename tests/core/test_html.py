"""HTML of notebooks' views: what a browser reads is the text that was given."""

import pytest

from bayes_moe.core import html
from tests.support.html_reader import Reader

HOSTILE = [
    "<script>alert(1)</script>",
    "a & b < c > d",
    "\"quoted\" and 'single'",
    "</td></table><img src=x onerror=alert(1)>",
    "&lt;already&gt;",
    "höhe µ 長",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_every_text_comes_back_as_text(text):
    page = html.view(
        text,
        html.table([text, "b"], [[text, 1], ["x", text]], caption=text),
        html.table([], [[text]]),
        html.paragraph(text),
        html.items([text, text]),
        html.folded(text, html.paragraph(text)),
    )
    read = Reader(page)
    assert read.texts.count(text) == 11
    assert {"script", "img"}.isdisjoint(read.tags)
    assert {name for name, _ in read.attributes} == {"style"}
    assert not any("url(" in value or "http" in value for _, value in read.attributes)


def test_a_table_has_its_rows_and_columns():
    read = Reader(html.table(["a", "b"], [[1, 2], [3, 4], [5, 6]], caption="numbers"))
    assert (read.tags.count("th"), read.tags.count("tr"), read.tags.count("td")) == (2, 4, 6)
    assert read.texts == ["numbers", "a", "b", "1", "2", "3", "4", "5", "6"]
    assert "thead" not in Reader(html.table([], [[1]])).tags


def test_an_empty_list_is_nothing():
    assert html.items([]) == ""
