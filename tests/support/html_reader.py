"""Reader of HTML views: what a browser would show, with checks that tags match."""

from html.parser import HTMLParser


class Reader(HTMLParser):
    """Collects tags and texts, and checks that each tag is closed by its own end."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.texts, self.attributes = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        """All texts, one after another."""
        return "\n".join(self.texts)


def view(thing):
    """The notebook view of an object, checked: no foreign tags, attributes or addresses."""
    read = Reader(thing._repr_html_())
    assert {*read.tags} <= ALLOWED
    assert {name for name, _ in read.attributes} == {"style"}
    assert not any("url(" in value or "http" in value for _, value in read.attributes)
    return read


ALLOWED = {
    *("div", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("ul", "li", "details", "summary"),
}
