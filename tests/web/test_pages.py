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
from workflow import HOSTILE, fill

from index import ArtifactStore
from index.web import Grant, Tokens, application
from index.web.charts import bars, graph
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
        "/sessions/…/runs/…",
        "/sessions/…/runs/…/compare",
        "/sessions/…/runs/…/file",
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


def test_files_of_a_session_are_found(site):
    text = read(site, "/sessions/session-1/find?pattern=*.csv&agent=&all_versions=true")
    assert "data/result.csv" in text
    assert "session-2" not in text
    assert "No file matches" in read(site, "/sessions/session-1/find?pattern=secret.txt")


def test_what_another_session_holds_looks_like_what_does_not_exist(site, clients):
    client = clients(site.store, authorize=lambda _request: Grant.of("session-1"))
    version = site.store.session("session-2").run("run-1").file("secret.txt")
    for foreign, missing in (
        ("/sessions/session-2/find", "/sessions/nobody/find"),
        ("/sessions/session-2/runs/run-1", "/sessions/nobody/runs/run-1"),
        ("/sessions/session-2/runs/run-1/timeline", "/sessions/nobody/runs/run-1/timeline"),
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
            "/storage",
        ):
            with statements(store) as made:
                assert client.get(place).status_code == 200
            seen[re.sub(r"[0-9a-f]{64}|snapshots/\d+|to=\d+", "", place)] = len(made)
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
