"""The pages: what they show of a run, that each link leads somewhere, and that HTML is sound."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections import Counter
from contextlib import ExitStack, contextmanager
from html import unescape
from itertools import pairwise
from types import SimpleNamespace
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
from documents import Document
from events import statements
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from workflow import HOSTILE, HOSTILE_URI, fill

from index import ArtifactStore
from index.web import Grant, Tokens, application
from index.web.charts import bars, graph, layered
from index.web.pages.commands import shell_quoted

SAME_SHAPE = 3
"""Pages of one kind, with the same parameters, that the crawler reads."""


@contextmanager
def client_of(store, root="", authorize=lambda _request: Grant()):
    """Yield a client of an application, which is mounted at `root`."""
    app = application(store, authorize=authorize)
    served = Starlette(routes=[Mount(root, app)]) if root else app
    try:
        yield TestClient(served, base_url="http://testserver", follow_redirects=False)
    finally:
        app.state.close()


def crawl(client, root):
    """Return the answers of all that is linked from the first page, and from what that links."""
    left, answers, shapes = [f"{root}/"], {}, Counter()
    while left:
        place = left.pop(0)
        if place in answers:
            continue
        parts = urlsplit(place)
        path = re.sub(r"(snapshots|files|blobs)/[^/]+", r"\1/…", parts.path)
        shape = (path, tuple(name for name, _ in parse_qsl(parts.query, keep_blank_values=True)))
        if shapes[shape] >= SAME_SHAPE:
            continue
        shapes[shape] += 1
        answers[place] = answer = client.get(place)
        if answer.headers["content-type"].startswith("text/html") and "/api/" not in place:
            for link in Document(answer.text).links:
                target = urlsplit(urljoin(f"http://testserver{place}", link))
                if not link.startswith("#"):
                    assert target.netloc == "testserver", (place, link)
                    left.append(target._replace(scheme="", netloc="", fragment="").geturl())
    return answers


@pytest.fixture(scope="module", params=["sqlite-local"])  # pages are made of the API alone
def site(request, stores, tmp_path_factory):
    """A store with runs, and all answers that can be reached from its first page."""
    folder = tmp_path_factory.mktemp("site")
    place = stores.make(request.param, folder / "place")
    work = folder / "work"
    work.mkdir()
    with ArtifactStore.open(**place) as store, client_of(store) as client:
        fill(store, work)
        answers = crawl(client, "")
        yield SimpleNamespace(store=store, client=client, answers=answers, folder=folder)
    stores.drop(place)


@pytest.fixture
def clients():
    """Makes clients as `client_of` does."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(client_of(*args, **kwargs))


def pages(answers):
    """Yield each page that was reached: its URL, its text, and what was read of it."""
    for place, answer in answers.items():
        if "/api/" not in place and answer.headers["content-type"].startswith("text/html"):
            yield place, answer.text, Document(answer.text)


def read(site, place):
    answer = site.client.get(place)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_every_link_of_every_page_leads_somewhere(site):
    failed = {
        place: answer.status_code
        for place, answer in site.answers.items()
        if answer.status_code != 200
    }
    assert not failed
    kinds = {
        re.sub("/(session-.|run-.|other|[0-9a-f]{64}|[0-9]+)(?=/|$)", "/…", urlsplit(place).path)
        for place, _, _ in pages(site.answers)
    }
    assert kinds == {
        "/",
        "/storage",
        "/sessions/…/find",
        "/sessions/…/difference",
        "/sessions/…/blobs/…",
        "/sessions/…/files/…/lineage",
        "/sessions/…/runs/…",
        "/sessions/…/runs/…/compare",
        "/sessions/…/runs/…/file",
        "/sessions/…/runs/…/inputs",
        "/sessions/…/runs/…/timeline",
        "/sessions/…/runs/…/snapshots/…",
    }


def test_every_link_leads_somewhere_below_a_mount(site):
    with client_of(site.store, "/cas") as client:
        answers = crawl(client, "/cas")
    assert {answer.status_code for answer in answers.values()} == {200}
    assert all(place.startswith("/cas/") for place in answers)


def test_html_is_sound_labelled_and_without_anything_inline(site):
    for place, text, document in pages(site.answers):
        assert not document.faults, (place, document.faults)
        assert document.tags["h1"] == document.tags["main"] == 1, place
        assert text.partition("</head>")[0].count("<title>") == 1, place
        assert text.startswith("<!doctype html>"), place


def test_headings_go_down_one_level_at_a_time(site):
    for place, _, document in pages(site.answers):
        levels = [int(tag[1]) for tag, _ in document.headings]
        assert all(later <= level + 1 for level, later in pairwise(levels)), place


def test_each_page_has_its_own_title(site):
    titles = {}
    for place, text, _ in pages(site.answers):
        path = urlsplit(place).path
        if path.startswith("/sessions/session-1/") and "/file" not in path:
            titles.setdefault(re.search("<title>(.*?) · runcas</title>", text)[1], set()).add(path)
    assert all(len(paths) == 1 for paths in titles.values()), titles


def test_no_page_names_a_place_of_the_server(site):
    for place, text, _ in pages(site.answers):
        assert str(site.folder) not in text, place


def test_names_of_a_run_are_shown_and_never_interpreted(site):
    text = read(site, "/sessions/session-1/runs/run-2?path=names")
    assert "&lt;script&gt;alert(1)&lt;|script&gt;.txt" in text
    assert "\\u202egpj.exe" in text
    assert "line\\nbreak.txt" in text
    assert "\\x1b[31mred" in text
    assert "not-utf-8-\\udcff.txt" in text
    assert "{{ 7 * 7 }}.md" in text
    assert "&lt;b&gt;agent&lt;/b&gt;" in text
    for place, shown, document in pages(site.answers):
        said = [document.text, *document.said]
        assert not [text for text in said if re.search("[\u202e\x1b\udcff]", text)], place
        assert "\x1b[31mred" not in shown, place
        assert set(document.tags) & {"b", "script"} <= {"script"}, place
        assert document.tags["script"] == 2, place


def test_each_hostile_name_has_a_page_and_a_command_that_a_shell_reads_back(site):
    document = Document(read(site, "/sessions/session-1/runs/run-2?path=names"))
    links = [link for link in document.links if "/file?" in link]
    assert len(links) == len(HOSTILE)
    for link in links:
        assert "cas restore" in read(site, link)
    for name in HOSTILE:
        shown = subprocess.run(
            ["bash", "-c", f"printf %s {shell_quoted(name)}"], capture_output=True, check=True
        )
        assert shown.stdout == name.encode("utf-8", "surrogateescape")
        assert shell_quoted(name).isprintable()


def test_the_restore_command_names_the_version_that_is_shown(site, tmp_path):
    run = site.store.session("session-2").run("other")
    text = read(site, "/sessions/session-2/runs/other/file?path=-x.txt&version=1")
    words = shlex.split(unescape(re.search("<code>(cas restore .*?)</code>", text)[1]))
    assert words[:2] == ["cas", "restore"]
    assert words[3:-1] == ["--run", "other", "--session", "session-2", "--at"]
    run.restore(tmp_path, paths=[words[2]], at=int(words[-1]))
    assert (tmp_path / "-x.txt").read_bytes() == b"once\n"
    assert not words[2].startswith("-")


def test_the_first_page_lists_runs_and_filters_them(site):
    assert ">other</a>" in read(site, "/")
    text = read(site, "/?session=session-1")
    assert text.index(">run-2</a>") < text.index(">run-1</a>")
    assert "run-1 at 3" in text
    assert "session-2" not in text
    only = read(site, "/?status=failed&matching=&agent=&session=")
    assert ">run-1</a>" in only
    assert ">run-2</a>" not in only
    assert ">run-2</a>" in read(site, "/?agent=planner&session=session-1")
    assert "No run matches" in read(site, "/?matching=nothing")
    assert "No run matches" in read(site, "/?session=nobody")


def test_a_run_shows_its_state_its_directories_and_its_charts(site):
    text = read(site, "/sessions/session-1/runs/run-1")
    assert "the fit did not converge" in text
    assert ">planning/</a>" in text
    assert "?at=3" in text  # the tag
    assert "?agent=engineer" in text  # a bar
    assert "?file_type=" in text
    inside = read(site, "/sessions/session-1/runs/run-1?path=planning&at=1")
    assert ">plan.md</a>" in inside
    assert "version=1" in inside
    assert "archive?path=planning&amp;at=1&amp;format=zip" in inside


def test_filters_turn_a_directory_into_a_list_of_files(site):
    place = "/sessions/session-1/runs/run-1"
    assert ">planning/plan.json</a>" in read(site, f"{place}?agent=planner&glob=&final=&at=")
    final = read(site, f"{place}?final=true")
    assert ">plots/dot.png</a>" in final
    assert ">planning/plan.md</a>" not in final
    largest = Document(read(site, f"{place}?order_by=-size"))
    assert largest.tags["tr"] > 5
    assert ">data/result.csv</a>" in read(site, f"{place}?glob=**/*.csv&path=data")
    assert "No file matches" in read(site, f"{place}?glob=**/*.csv&path=plots")


def test_the_timeline_says_what_each_snapshot_changed_and_by_whom(site):
    place = "/sessions/session-1/runs/run-1/timeline"
    text = read(site, place)
    assert text.index('/snapshots/9"') < text.index('/snapshots/1"')
    assert "python -c print(1)" in text
    only = read(site, f"{place}?agent=planner&phase=planning")
    assert '/snapshots/1"' in only
    assert '/snapshots/3"' not in only


def test_a_snapshot_shows_its_changes(site):
    text = read(site, "/sessions/session-1/runs/run-1/snapshots/6")
    for word in (
        "+ added",
        "~ changed",
        "\N{MINUS SIGN} removed",
        "plots/fit.svg",
        "data/samples.csv",
    ):
        assert word in text
    assert "/snapshots/5" in text
    assert "/snapshots/7" in text


def test_a_file_shows_its_versions_their_makers_and_who_else_has_its_bytes(site):
    text = read(site, "/sessions/session-1/runs/run-1/file?path=planning/plan.md")
    assert "Version 2, the present one" in text
    assert "version=1" in text
    assert "copies/plan.md" in text
    assert "by engineer" in text
    assert "content?download=true" in text
    removed = read(site, "/sessions/session-1/runs/run-1/file?path=plots/fit.svg")
    assert "It ended with" in removed
    assert "dpi" in read(site, "/sessions/session-1/runs/run-1/file?path=plots/dot.png")


def test_a_run_shows_what_it_is_a_part_of_its_parts_tags_and_notes(site):
    text = read(site, "/sessions/session-1/runs/run-2")
    assert re.search('Part of</dt><dd><a href="[^"]*/runs/run-1">run-1</a>', text)
    assert "&lt;b&gt;note&lt;/b&gt;" in text
    whole = read(site, "/sessions/session-1/runs/@best")
    assert re.search('Children</dt><dd>\\s*<a href="[^"]*/runs/run-2">run-2</a>', whole)
    assert re.search("Tags of the run</dt><dd>best</dd>", whole)
    assert "print(1)" in whole
    assert ">run-2</a>" in read(site, "/?session=session-1&parent=run-1")
    assert "No run matches" in read(site, "/?session=session-1&parent=run-2")


@pytest.mark.parametrize(
    "notes", [{"git": {}}, {"git": "4f2a"}, {"command": 3}, {"command": {"a": 1}}, {"get": 1}]
)
def test_notes_of_any_form_are_shown(store, clients, work, notes):
    run = store.session("s").run("r")
    run.describe(notes=notes)
    run.track(work, notes=notes)
    for page in ("", "/snapshots/1", "/timeline"):
        assert clients(store).get(f"/sessions/s/runs/r{page}").status_code == 200


def test_a_parent_that_does_not_exist_is_no_link(store, clients):
    store.session("s").run("child").describe(parent="later")
    text = clients(store).get("/sessions/s/runs/child").text
    assert "Part of</dt><dd>later</dd>" in text


def versions_of(site, path):
    return site.store.session("session-1").run("run-1").history(path)


def test_differences_are_lines_columns_or_images(site):
    def shown(path):
        one, other = (each.id for each in versions_of(site, path)[-2:])
        return read(site, f"/sessions/session-1/difference?before={one}&after={other}")

    assert '<span class="added">+# Another plan</span>' in shown("planning/plan.md")
    assert "New columns" in shown("data/samples.csv")
    assert shown("plots/dot.png").count("<img ") == 2


def test_a_comparison_shows_moves_and_groups(site):
    place = "/sessions/session-1/runs/run-1/compare"
    assert "Choose two snapshots" in read(site, place)
    text = read(site, f"{place}?from=5&to=6&other=&by=agent")
    assert "→ moved" in text
    assert re.search("reports/report.md → reports/final.md", text)
    assert ">engineer</h2>" in text
    assert ">control</h2>" in read(site, f"{place}?from=5&to=6&by=phase")
    assert "hold the same files" in read(site, f"{place}?from=6&to=6")
    between = read(site, f"{place}?other=run-2")
    assert "run-1 now" in between
    assert "run-2 now" in between


def test_bytes_show_who_made_them_as_a_graph_and_as_a_table(site):
    digest = versions_of(site, "planning/plan.md")[-1].digest
    text = read(site, f"/sessions/session-1/blobs/{digest}")
    assert "run-1 · planner" in text
    assert "run-1 · engineer" in text
    assert text.count('class="node version"') == 2
    assert "copies/plan.md" in text


def section(text, heading):
    """Return what follows a heading, up to the next one."""
    return text.partition(f">{heading}</h2>")[2].partition("<h2")[0]


def test_a_file_shows_what_it_was_made_from_and_what_went_into(site):
    place = "/sessions/session-1/runs/run-1/file?path="
    text = read(site, f"{place}data/result.csv")
    above = section(text, "Made from")
    assert "codebase/step_1.py</a>, version 1 of run-1, by engineer" in above
    assert "plan.md" not in above
    below = section(text, "Went into")
    for path in ("plots/fit.svg", "plots/residuals.svg", "reports/report.md"):
        assert f"{path}</a>, version 1 of run-1" in below
    assert "lineage?direction=up" in above
    assert "lineage?direction=down" in below
    samples = read(site, f"{place}data/samples.csv")
    assert "No inputs were noted for it" in section(samples, "Made from")
    assert "Nobody noted" in section(samples, "Went into")
    # What a fork copied was made where it was made first.
    copied = read(site, "/sessions/session-1/runs/run-2/file?path=data/result.csv")
    assert "codebase/step_1.py</a>, version 1 of run-1" in section(copied, "Made from")


def test_a_file_lists_only_so_many_and_says_how_many_more(store, clients, monkeypatch):
    run = store.session("session-1").run("run-1")
    sources = run.put_many([(f"in/{n:02}.csv", b"%d" % n) for n in range(12)])
    run.use(*sources, node_id="fit")
    run.put_many([(f"out/{n:02}.csv", b"-%d" % n) for n in range(13)], node_id="fit")
    client = clients(store)
    place = "/sessions/session-1/runs/run-1/file?path="
    above = section(client.get(f"{place}out/00.csv").text, "Made from")
    assert (above.count("<li>"), "and 2 more" in above) == (10, True)
    below = section(client.get(f"{place}in/00.csv").text, "Went into")
    assert (below.count("<li>"), "and 3 more" in below) == (10, True)
    run.use("in/00.csv", node_id="look", agent="reader")
    text = client.get(f"/sessions/session-1/blobs/{sources[0].digest}").text
    assert "nothing yet" in section(text, "Who read these bytes")
    monkeypatch.setattr("index.web.pages.lineage._VERSIONS", 5)
    above = section(client.get(f"{place}out/00.csv").text, "Made from")
    assert "too many files to list" in above
    assert "/runs/run-1/inputs?node_id=fit" in above
    assert "too many" in section(client.get(f"{place}in/00.csv").text, "Went into")
    text = client.get(f"/sessions/session-1/blobs/{sources[0].digest}").text
    assert "too many to list" in section(text, "Who read these bytes")
    made = run.file("out/00.csv")
    text = client.get(f"/sessions/session-1/files/{made.id}/lineage").text
    assert "There is more than" in text


def test_what_was_dropped_stays_in_the_pages_of_what_was_made_from_it(store, clients):
    run = store.session("session-1").run("run-1")
    (raw,) = run.put_many([("raw.csv", b"raw")], node_id="load")
    run.use(raw, node_id="clean")
    (made,) = run.put_many([("clean.csv", b"clean")], node_id="clean")
    run.put("copy.csv", b"raw")
    run.put("raw.csv", b"new")
    run.drop("raw.csv", version=1, reason="large")
    client = clients(store)
    place = "/sessions/session-1/runs/run-1/file?path="
    above = section(client.get(f"{place}clean.csv").text, "Made from")
    assert "raw.csv</a>, version 1 of run-1, dropped" in above
    text = client.get(f"{place}raw.csv&version=1").text
    assert f"There is none: its bytes, blake3:{raw.digest}, were dropped on" in text
    assert re.search(r", dropped on [\d-]{10}: large</dd>", text)
    assert "copy.csv" in section(text, "Same bytes")
    for page in (
        f"{place}raw.csv&version=1",
        f"/sessions/session-1/blobs/{raw.digest}",
        f"/sessions/session-1/files/{made.id}/lineage",
        f"/sessions/session-1/files/{raw.id}/lineage?direction=down",
        "/sessions/session-1/runs/run-1/inputs",
    ):
        answer = client.get(page)
        assert answer.status_code == 200, page
        assert "clean.csv" in answer.text


def test_a_lineage_is_a_graph_and_a_table_of_as_many_steps_as_asked_for(site):
    (figure,) = versions_of(site, "plots/residuals.svg")
    place = f"/sessions/session-1/files/{figure.id}/lineage"
    text = read(site, place)
    assert text.count('class="node content"') == 1
    assert ">plots/residuals.svg@1</text>" in text
    assert ">plots · plotter</text>" in text
    assert "codebase/step_1.py" in text
    assert "planning/plan.md" not in text
    assert "There is more than these steps show" in text
    one = read(site, f"{place}?direction=up&depth=1")
    assert "codebase/step_1.py" not in one
    all_ = read(site, f"{place}?depth=5&direction=")
    assert "planning/plan.md" in all_
    assert "There is more" not in all_
    document = Document(all_)
    assert document.tags["tr"] == all_.count('class="edge"') + 1
    for direction, depth in (("both", 1), ("up", 5), ("down", 5)):
        assert f"{place}?direction={direction}&depth={depth}" in document.links
    below = read(site, f"{place}?direction=down")
    assert "data/samples.csv" not in below
    assert site.client.get(f"{place}?depth=51").status_code == 400


def test_a_run_shows_its_inputs_and_what_is_out_of_date(site):
    text = read(site, "/sessions/session-1/runs/run-1")
    assert section(text, "Inputs").count("<li>") == 5
    assert "planning/plan.md</a>, version 1 of run-1, read by engineer" in text
    assert "/runs/run-1/inputs#stale" in text
    stale = section(read(site, "/sessions/session-1/runs/run-1/inputs"), "Out of date")
    assert "plots/residuals.svg</a>, version 1 of run-1 was made from" in stale
    assert ">version 2</a> is there now" in stale
    assert "#stale" not in read(site, "/sessions/session-1/runs/run-1?agent=engineer")
    assert ">Inputs</h2>" not in read(site, "/sessions/session-2/runs/other")
    inputs = read(site, "/sessions/session-1/runs/run-1/inputs?node_id=reports")
    assert "plots/fit.svg" in inputs
    assert "samples.csv" not in inputs
    assert "Out of date" not in inputs
    assert "No input matches" in read(site, "/sessions/session-1/runs/run-1/inputs?agent=nobody")


def test_a_reference_and_a_deleted_input_are_text_and_no_link(site):
    for place in (
        "/sessions/session-1/runs/run-2/inputs",
        "/sessions/session-1/runs/run-2/file?path=names/%23?%26%252F.txt",
    ):
        document = Document(read(site, place))
        assert f"{HOSTILE_URI}, outside of the store" in document.text
        assert "gone-<b>.txt, version 1 of gone, deleted" in document.text
    for place, _, document in pages(site.answers):
        assert not [link for link in document.links if "javascript:" in link], place
        assert not [link for link in document.links if "/runs/gone" in link], place


def test_bytes_show_who_read_them_and_what_they_made(site):
    digest = versions_of(site, "data/result.csv")[0].digest
    text = section(read(site, f"/sessions/session-1/blobs/{digest}"), "Who read these bytes")
    for word in ("plots/fit.svg", "id-plots", "plotter", "reports/report.md", "researcher"):
        assert word in text
    assert "&lt;b&gt;agent&lt;/b&gt;" in text


def test_a_run_says_when_there_is_too_much_to_tell_what_is_out_of_date(store, clients, monkeypatch):
    run = store.session("session-1").run("run-1")
    run.use(run.put("a.csv", b"a"))

    def too_much(*_args, **_kwargs):
        raise ValueError("more than 1000 versions are concerned")

    place = "/sessions/session-1/runs/run-1/inputs"
    assert "No file of the run is out of date" in clients(store).get(place).text
    monkeypatch.setattr("index.api.session.Session.stale", too_much)
    assert "Use <code>cas stale</code>" in clients(store).get(place).text


def test_inputs_come_page_by_page(store, clients):
    run = store.session("session-1").run("run-1")
    made = run.put_many([(f"{n:03}.csv", b"%d" % n) for n in range(130)])
    run.use(*made)
    client, place, found = clients(store), "/sessions/session-1/runs/run-1/inputs", []
    while place:
        text = client.get(place).text
        found += re.findall(r'<th scope="row" class="name"><a [^>]*>([^<]*)</a>', text)
        following = re.search('<a href="([^"]*)" rel="next">', text)
        place = following and following[1].replace("&amp;", "&")
    assert found == [each.path for each in made]


def test_files_of_a_session_are_found(site):
    text = read(site, "/sessions/session-1/find?pattern=*.csv&agent=&all_versions=true")
    assert "data/result.csv" in text
    assert "session-2" not in text
    assert "No file matches" in read(site, "/sessions/session-1/find?pattern=secret.txt")
    where = "/sessions/session-1/find?where=name+%3D+%27result.csv%27+and+size+%3E+0"
    assert "data/result.csv" in read(site, where)
    assert 'value="name = &#39;result.csv&#39; and size &gt; 0"' in read(site, where)
    wrong = site.client.get("/sessions/session-1/find?where=agnt+is+null")
    assert (wrong.status_code, "the closest is" in wrong.text) == (400, True)


def test_what_another_session_holds_looks_like_what_does_not_exist(site, clients):
    client = clients(site.store, authorize=lambda _request: Grant.of("session-1"))
    version = site.store.session("session-2").run("run-1").file("secret.txt")
    for foreign, missing in (
        ("/sessions/session-2/find", "/sessions/nobody/find"),
        ("/sessions/session-2/runs/run-1", "/sessions/nobody/runs/run-1"),
        ("/sessions/session-2/runs/run-1/timeline", "/sessions/nobody/runs/run-1/timeline"),
        ("/sessions/session-2/runs/run-1/inputs", "/sessions/nobody/runs/run-1/inputs"),
        (
            f"/sessions/session-2/files/{version.id}/lineage",
            "/sessions/nobody/files/999999/lineage",
        ),
        (
            f"/sessions/session-1/files/{version.id}/lineage",
            "/sessions/session-1/files/999999/lineage",
        ),
        ("/sessions/session-2/runs/run-1/compare", "/sessions/nobody/runs/run-1/compare"),
        ("/sessions/session-2/runs/run-1/snapshots/1", "/sessions/nobody/runs/run-1/snapshots/1"),
        (
            "/sessions/session-2/runs/run-1/file?path=secret.txt",
            "/sessions/nobody/runs/run-1/file?path=secret.txt",
        ),
        (f"/sessions/session-2/blobs/{version.digest}", f"/sessions/nobody/blobs/{version.digest}"),
        (
            f"/sessions/session-1/difference?after={version.id}",
            "/sessions/session-1/difference?after=999999",
        ),
        (
            f"/sessions/session-1/blobs/{version.digest}",
            f"/sessions/session-1/blobs/{'0' * 64}",
        ),
    ):
        answers = [client.get(place) for place in (foreign, missing)]
        assert [answer.status_code for answer in answers] == [404, 404], foreign
        texts = [
            re.sub(f"session-2|nobody|{version.digest}|0{{64}}|{version.id}|999999", "…", each.text)
            for each in answers
        ]
        assert texts[0] == texts[1]
    assert client.get("/storage").status_code == 404
    first = client.get("/").text
    assert "session-2" not in first
    assert "Storage" not in first
    assert "No run matches" in client.get("/?session=session-2").text


def test_what_is_wrong_is_a_page_that_says_so(site):
    for place, status in (
        ("/?colour=red", 400),
        ("/nowhere", 404),
        ("/sessions/session-1/runs/none", 404),
        ("/sessions/session-1/runs/run-1?at=99", 404),
        ("/sessions/session-1/runs/run-1/file", 400),
        ("/sessions/session-1/runs/run-1/file?path=none.txt", 404),
        ("/sessions/session-1/runs/run-1?path=%3Cscript%3E", 404),
    ):
        answer = site.client.get(place)
        assert answer.status_code == status, place
        assert not Document(answer.text).faults
        assert "<h1>" in answer.text
        assert "<script>" not in answer.text


def test_a_token_is_asked_for_and_remembered(site, clients):
    token = "letters" * 4
    client = clients(site.store, "/cas", authorize=Tokens({token: Grant.of("session-1")}))
    answer = client.get("/cas/sessions/session-1/runs/run-1?path=data")
    assert answer.status_code == 303
    login = client.get(answer.headers["location"])
    assert login.status_code == 200
    assert not Document(login.text).faults
    action = re.search('action="([^"]*)"', login.text)[1].replace("&amp;", "&")
    refused = client.post(action, data={"token": "not-the-token-of-it"})
    assert refused.status_code == 401
    assert "This is not a token" in refused.text
    assert "not-the-token-of-it" not in refused.text
    taken = client.post(action, data={"token": token})
    assert taken.status_code == 303
    assert client.get(taken.headers["location"]).status_code == 200


def test_the_statements_of_a_page_do_not_depend_on_how_much_there_is(store, clients):
    run = store.session("session-1").run("run-1")
    counted = []
    client = clients(store)
    for count in (3, 300):
        run.put_many([(f"data/part-{n}.csv", f"{n}\n".encode()) for n in range(count)], agent="a")
        run.put("data/part-0.csv", f"changed {count}\n".encode(), agent="b")
        run.use(*run.files(glob="data/*"), node_id="plot")
        figure = run.put(f"figure-{count}.png", b"%d" % count, node_id="plot")
        run.put("data/part-0.csv", f"again {count}\n".encode(), agent="b")  # the figure is stale
        newest = run.summary().snapshots
        version = run.file("data/part-0.csv")
        seen = {}
        for place in (
            "/",
            "/sessions/session-1/runs/run-1",
            "/sessions/session-1/runs/run-1?path=data",
            "/sessions/session-1/runs/run-1?agent=a",
            "/sessions/session-1/runs/run-1/timeline",
            f"/sessions/session-1/runs/run-1/snapshots/{newest - 1}",
            f"/sessions/session-1/runs/run-1/compare?from=1&to={newest}",
            "/sessions/session-1/runs/run-1/file?path=data/part-0.csv",
            "/sessions/session-1/find?pattern=*.csv",
            f"/sessions/session-1/blobs/{version.digest}",
            f"/sessions/session-1/files/{figure.id}/lineage?depth=1",
            "/sessions/session-1/runs/run-1/inputs",
            f"/sessions/session-1/runs/run-1/file?path={figure.path}",
            "/storage",
        ):
            with statements(store) as made:
                assert client.get(place).status_code == 200
            seen[re.sub(r"[0-9a-f]{64}|(snapshots/|to=|files/|figure-)\d+", "", place)] = len(made)
        counted.append(seen)
    few, many = counted
    assert few == many
    assert max(many.values()) <= 24


def test_long_listings_go_on_at_the_next_page(store, clients):
    run = store.session("session-1").run("run-1")
    names = [f"data/part-{n:03}.csv" for n in range(450)]
    run.put_many([(name, name.encode()) for name in names])
    client = clients(store)
    for query in ("path=data", "file_type=data"):
        place, found = f"/sessions/session-1/runs/run-1?{query}", []
        while place:
            text = client.get(place).text
            found += re.findall(r'<th scope="row" class="name"><a [^>]*>([^<]*)</a>', text)
            following = re.search('<a href="([^"]*)" rel="next">', text)
            place = following and following[1].replace("&amp;", "&")
        assert [name.rpartition("/")[2] for name in found] == [each[5:] for each in names]


def test_the_longest_bars_are_drawn_and_the_others_are_added_up():
    drawn = bars({f"type-{n}": n for n in range(12)}, lambda label: f"?{label}", is_size=True)
    assert [bar.label for bar in drawn[:2]] == ["type-11", "type-10"]
    assert drawn[0].percent == 100
    assert drawn[0].text == "11 B"
    assert drawn[-1].label == "4 others"
    assert drawn[-1].text == "10 B"
    assert drawn[-1].url is None
    assert bars({None: 0}) == []


def test_a_graph_keeps_to_what_can_be_read():
    versions = [
        {"digest": "d" * 64, "path": f"{'x' * 90}-{n}", "version": n, "run": "r", "agent": None}
        for n in range(20)
    ]
    made = graph(versions)
    assert len([node for node in made.nodes if node.kind == "version"]) == 12
    assert made.left_out == 8
    assert all(len(node.label) <= 30 for node in made.nodes)
    assert all(0 <= node.y <= made.height - made.box[1] for node in made.nodes)


def test_a_graph_in_columns_has_what_is_made_to_the_right_of_what_it_is_made_from():
    boxes = {key: (key, key, "version") for key in ("made", "step", "one", "two", "after")}
    links = [("made", "step"), ("step", "one"), ("step", "two"), ("after", "made")]
    drawn = layered(boxes, links, ["made"])
    x = {node.label: node.x for node in drawn.nodes}
    assert x["one"] == x["two"] < x["step"] < x["made"] < x["after"]
    assert x["one"] == 0
    assert drawn.width == x["after"] + drawn.box[0]
    assert all(edge.x1 < edge.x2 for edge in drawn.edges)
    assert len(drawn.edges) == 4


def test_a_graph_in_columns_keeps_to_what_can_be_read():
    chain = [(f"{n}", f"{n + 1}") for n in range(100)]
    wide = [("0", f"w{n}") for n in range(50)]
    keys = {key for link in (*chain, *wide) for key in link}
    drawn = layered({key: (key * 90, key, "version") for key in keys}, [*chain, *wide], ["0"])
    assert len(drawn.nodes) == 60
    assert drawn.left_out == len(keys) - 60
    assert max(Counter(node.x for node in drawn.nodes).values()) == 12
    assert all(len(node.label) <= 30 for node in drawn.nodes)
    circle = layered({"a": ("a", "a", "x"), "b": ("b", "b", "x")}, [("a", "b"), ("b", "a")], ["a"])
    assert (len(circle.nodes), len(circle.edges)) == (2, 2)
