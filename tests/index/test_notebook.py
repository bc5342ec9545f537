"""How results show in notebooks, and as data frames."""

from __future__ import annotations

import gzip
from html.parser import HTMLParser

import pytest
from damage import inside, mutate
from places import objects_of, on_one

from cas.packs.pack import EntryKind
from index import ArtifactStore, provenance
from index.errors import UnknownFileError

pytestmark = on_one(because="what is shown does not depend on where it is kept")

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
HOSTILE = "<script>alert(1)</script>&\"'"


class Page(HTMLParser):
    """Checks that every tag is closed, and collects tags and text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(place):
    with ArtifactStore.open(**place) as store:
        made = store.session("s").run("r")
        with provenance(agent=HOSTILE, phase="control"):
            made.put("a.csv", f"time,value\n1,2\n{HOSTILE}".encode())
            made.put("plot.png", PNG)
            made.put("icon.svg", f"<svg>{HOSTILE}</svg>".encode())
            made.put(f"{HOSTILE}-caf\udce9.bin", b"\xff\x00", meta={"note": HOSTILE})
            made.put("a.csv", b"time,value\n1,3\n")
        yield made


def test_everything_shows_as_closed_tags_without_scripts(run, place):
    with ArtifactStore.open(**place) as store:
        shown = [run, run.snapshots()[0], run.diff(1, 5), store, store.session("s"), store.run("x")]
        shown += run.files()
        for each in shown:
            page = Page(each._repr_html_())
            assert page.text
            assert not {"script", "svg"} & {tag for tag, _ in page.tags}
            assert not any(name.startswith("on") for _, names in page.tags for name in names)
            each._repr_html_().encode()


def test_a_run_shows_thumbnails_and_the_heads_of_texts(run):
    page = Page(run._repr_html_())
    (image,) = [names for tag, names in page.tags if tag == "img"]
    assert image["src"].startswith("data:image/png;base64,")
    assert "time,value\n1,3" in page.text
    assert "4 files" in page.text


def test_a_run_of_many_files_shows_some_and_counts_the_rest(run):
    run.put_many([(f"many/{number:04d}", b"x") for number in range(100)])
    page = Page(run._repr_html_())
    assert "and 84 more" in page.text
    assert len(run._repr_html_()) < 20_000


def test_damage_does_not_keep_a_run_from_showing(run, place):
    mutate(objects_of(place), inside(EntryKind.BLOB))
    assert "4 files" in run._repr_html_()


def test_a_diff_shows_and_lists_each_change(run):
    page = Page(run.diff(1, 5)._repr_html_())
    assert "3 added" in page.text
    assert "1 changed" in page.text
    frame = run.diff(1, 5).to_frame().set_index("path")
    assert frame.loc["a.csv", "change"] == "changed"
    assert frame.loc["a.csv", "size_before"] == run.file("a.csv", version=1).size
    assert list(frame["change"]).count("added") == 3


def test_a_run_and_a_session_are_data_frames(run, place):
    frame = run.to_frame()
    assert list(frame["path"]) == [path.replace("\udce9", "\\xe9") for path in run]
    assert set(frame["agent"]) == {HOSTILE}
    assert str(frame["created_at"].dtype.tz) == "UTC"
    assert list(run.to_frame(at=1)["path"]) == ["a.csv"]
    with ArtifactStore.open(**place) as store:
        assert list(store.session("s").to_frame()["run"]) == ["r"]


def test_texts_json_and_tables_are_read_in_a_word(run):
    assert run.read_text("a.csv", version=1).startswith("time,value")
    run.put("a.json", b'{"x": [1]}')
    assert run.read_json("a.json") == {"x": [1]}
    assert run.read_frame("a.csv")["value"].sum() == 3
    run.put("b.tsv.gz", gzip.compress(b"x\ty\n1\t2\n"))
    assert run.read_frame("b.tsv.gz")["y"].sum() == 2
    run.put("c.jsonl", b'{"x": 1}\n{"x": 2}\n')
    assert run.read_frame("c.jsonl")["x"].sum() == 3
    with pytest.raises(ValueError, match="does not say the format of a table"):
        run.read_frame("plot.png")


def test_many_files_are_read_together(run):
    files = {f"d/{number}": b"%d" % number * 50 for number in range(300)}
    run.put_many([*files.items(), ("large", bytes(range(256)) * 20_000)])
    assert dict(run.read_many(["d"])) == files
    assert dict(run.read_many(["large", "d/3"])).keys() == {"large", "d/3"}
    assert len(dict(run.read_many())) == len(run)
    assert dict(run.read_many(at=1)) == {"a.csv": run.read_bytes("a.csv", at=1)}
    with pytest.raises(UnknownFileError):
        run.read_many(["none"])
