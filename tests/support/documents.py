"""HTML as a browser's strictest reader sees it: what nests badly, links and labels."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

VOID = {"br", "col", "hr", "img", "input", "link", "meta"}

CLOSED = {"rect", "path", "circle", "line"}
"""Elements of SVG that close themselves."""

BLOCKS = {"div", "dl", "figure", "form", "h1", "h2", "h3", "nav", "ol", "p", "pre", "section"}
BLOCKS |= {"table", "ul"}
"""Elements that no paragraph holds."""

SAID = ("alt", "aria-label", "placeholder", "title")

LINKS = ("href", "src", "hx-get")


class Document(HTMLParser):
    """A page that was read. `faults` says what is wrong with its HTML."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.faults = []
        self.links = []
        """What links, sources and htmx name."""
        self.tags = Counter()
        self.text = ""
        self.said = []
        """Attributes that are read to people."""
        self.labelled = set()
        self.attributes = []
        self.headings = []
        self._fields = []
        self._ids = Counter()
        self._open = []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> stays open" for tag in self._open]
        self.faults += [f"id {name} twice" for name, count in self._ids.items() if count > 1]
        self.faults += [f"no label for {name}" for name in {*self._fields} - self.labelled]
        for attributes in self.attributes:
            for name in ("aria-labelledby", "aria-describedby", "list"):
                for target in (attributes.get(name) or "").split():
                    if target not in self._ids:
                        self.faults.append(f"{name} names {target}, which is not there")

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags[tag] += 1
        self.attributes.append(attributes)
        if (name := attributes.get("id")) is not None:
            self._ids[name] += 1
        self.links += [attributes[name] for name in LINKS if attributes.get(name)]
        self.said += [attributes[name] for name in SAID if attributes.get(name)]
        if tag == "label":
            self.labelled.add(attributes.get("for"))
        if tag in ("input", "select", "textarea") and attributes.get("type") != "hidden":
            self._fields.append(attributes.get("id"))
        self.faults += [f"<{tag}>: {fault}" for fault in self._faults_of(tag, attrs, attributes)]
        if tag not in VOID:
            self._open.append(tag)

    def _faults_of(self, tag, attrs, attributes):
        if len(attributes) < len(attrs):
            yield "an attribute twice"
        yield from (name for name in attributes if name == "style" or name.startswith("on"))
        if tag == "th" and attributes.get("scope") not in ("col", "row"):
            yield "no scope"
        if tag == "img" and not attributes.get("alt"):
            yield "no alt"
        if tag == "style" or (tag == "script" and not attributes.get("src")):
            yield "inline"
        if (tag in BLOCKS and "p" in self._open) or (tag == "a" and "a" in self._open):
            yield "where it can't be"

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag in CLOSED:
            self._open.pop()
        elif tag not in VOID:
            self.faults.append(f"<{tag}/>")

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings.append((self._open[-1], data))
        self.text += data
