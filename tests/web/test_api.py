"""The JSON API: what it answers, page by page, and what it keeps to itself."""

from __future__ import annotations

import io
import os
import tarfile
import threading
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlencode

import pytest
from places import on_one, packs_of
from starlette.testclient import TestClient
from trees import write

from cas.digest import Digest
from index import NewFile, Reference
from index.web import Grant, Tokens, application
from index.web.downloads import read_range
from index.web.endpoints import ENDPOINTS
from index.web.parameters import SNAPSHOT
from index.web.previews import Previewer

RUN = "/sessions/session-1/runs/run-1"
FILES = "/sessions/session-1/files"

OWNER = "what-the-owner-knows"
SCOPED = "what-a-reader-knows"


@pytest.fixture
def worked(run, work):
    """A run of three snapshots, by two agents."""
    write(work, {"plan.md": b"# Plan\n", "data/a.csv": b"n\n1\n", "data/b.csv": b"n\n2\n"})
    run.track(work, agent="planner", phase="planning", node_id="plan")
    write(work, {"data/a.csv": b"n\n1\n3\n", "plots/p.png": b"\x89PNG\r\n\x1a\nrest"})
    (work / "data" / "b.csv").unlink()
    run.track(work, agent="engineer", phase="control", node_id="step_1", step_id="s1")
    run.put("report.html", b"<script>alert(1)</script>", agent="engineer", is_final_output=True)
    return run


def paths(answer):
    return [each["path"] for each in answer["items"]]


def read_all(client, url):
    """Return the items of all pages, and the number of pages."""
    items, pages = [], 0
    while url is not None:
        answer = client.get(url).json()
        items += answer["items"]
        url, pages = answer["next"], pages + 1
    return items, pages


def said(answer):
    """Return what an answer has, without the address of its next page."""
    if answer.headers["content-type"] != "application/json":
        return len(answer.content)
    found = answer.json()
    return found.get("items", found)


class TestTags:
    def test_every_snapshot_of_a_query_may_be_a_tag(self, worked, client):
        worked.tag("best", at=2)
        paths_of = {"path": "plan.md"}
        for endpoint in ENDPOINTS:
            names = [each.name for each in endpoint.parameters if each.kind is SNAPSHOT]
            if not names or "{run}" not in endpoint.path:
                continue
            needed = {
                each.name: paths_of[each.name] for each in endpoint.parameters if each.is_required
            }
            address = endpoint.path.format(session="session-1", run="run-1")
            for name in names:
                url = f"/api/v1{address}"
                by_tag, by_number = (
                    client.get(url, params={**needed, name: at}) for at in ("best", 2)
                )
                assert by_tag.status_code == 200, (endpoint.path, name)
                assert said(by_tag) == said(by_number), (endpoint.path, name)

    def test_a_run_is_named_by_its_tag(self, store, worked, api):
        made = store.session("session-1").tag_run("best", "run-1")
        assert api("/sessions/session-1/run-tags")["items"] == [made.to_dict()]
        assert api("/sessions/session-1/runs/@best") == api(RUN)
        assert api(RUN)["tags"] == ["best"]
        assert paths(api("/sessions/session-1/runs/@best/files")) == paths(api(f"{RUN}/files"))

    def test_children_and_notes_are_listed_without_places(self, store, worked, api):
        notes = {"rate": 0.1, "directory": "/home/me", "command": ["train"]}
        store.session("session-1").run("trial").describe(parent="run-1", notes=notes)
        (child,) = api("/sessions/session-1/runs", parent="run-1")["items"]
        assert (child["run"], child["parent"]) == ("trial", "run-1")
        assert child["notes"] == {"rate": 0.1, "command": ["train"]}


class TestListings:
    def test_runs_are_listed_by_last_activity_the_newest_first(self, store, worked, api):
        store.session("session-1").run("run-2").put("x", b"x")
        assert [each["run"] for each in api("/runs")["items"]] == ["run-2", "run-1"]
        assert api("/sessions/session-1/runs")["items"] == api("/runs")["items"]
        assert api(RUN)["files"] == 4

    def test_runs_come_in_pages(self, store, client):
        for n in range(7):
            store.session(f"s{n % 2}").run(f"r{n}").put("x", b"x")
        items, pages = read_all(client, "/api/v1/runs?limit=3")
        assert [each["run"] for each in items] == [f"r{n}" for n in range(6, -1, -1)]
        assert pages == 3

    def test_several_sessions_come_in_pages_too(self, store, client_of):
        for n in range(9):
            store.session(f"s{n % 3}").run(f"r{n}").put("x", b"x")
        client = client_of(Grant.of("s0", "s2", "missing"))
        items, _ = read_all(client, "/api/v1/runs?limit=2")
        assert [each["run"] for each in items] == ["r8", "r6", "r5", "r3", "r2", "r0"]
        sessions = client.get("/api/v1/sessions").json()["items"]
        assert [(each["session"], each["files"]) for each in sessions] == [("s0", 3), ("s2", 3)]

    def test_runs_are_found_by_name_status_and_agent(self, store, api):
        store.session("s").run("fit-1").put("x", b"x", agent="engineer")
        store.session("s").run("fit-2").put("x", b"x", agent="plotter")
        store.session("s").run("fit-2").set_status("failed", reason="it diverged")
        assert [each["run"] for each in api("/runs", matching="fit-*")["items"]] == [
            "fit-2", "fit-1",
        ]  # fmt: skip
        assert [each["run"] for each in api("/runs", agent="engineer")["items"]] == ["fit-1"]
        (failed,) = api("/runs", status="failed")["items"]
        assert (failed["run"], failed["status_reason"]) == ("fit-2", "it diverged")

    def test_a_directory_has_its_entries(self, worked, api):
        found = api(f"{RUN}/entries")["items"]
        assert [(each["name"], each["is_directory"]) for each in found] == [
            ("data", True), ("plan.md", False), ("plots", True), ("report.html", False),
        ]  # fmt: skip
        assert paths(api(f"{RUN}/entries", path="data", at=1)) == ["data/a.csv", "data/b.csv"]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({}, ["data/a.csv", "plan.md", "plots/p.png", "report.html"]),
            ({"agent": "planner"}, ["plan.md"]),
            ({"step_id": "s1"}, ["data/a.csv", "plots/p.png"]),
            ({"final": "true"}, ["report.html"]),
            ({"final": "false", "file_type": "data"}, ["data/a.csv"]),
            ({"glob": "**/*.png"}, ["plots/p.png"]),
            ({"prefix": "p"}, ["plan.md", "plots/p.png"]),
            ({"at": "1"}, ["data/a.csv", "data/b.csv", "plan.md"]),
            ({"order_by": "-size", "limit": "1"}, ["report.html"]),
        ],
    )
    def test_files_are_listed_by_what_they_are(self, worked, api, query, found):
        assert paths(api(f"{RUN}/files", **query)) == found

    def test_files_come_in_pages(self, worked, client):
        items, pages = read_all(client, f"/api/v1{RUN}/files?limit=1&order_by=appearance")
        assert ([each["path"] for each in items], pages) == (
            ["data/a.csv", "plan.md", "plots/p.png", "report.html"], 4,
        )  # fmt: skip

    def test_a_page_ends_early_if_its_items_are_long(self, run, client, monkeypatch):
        monkeypatch.setattr("index.web.api._PAGE_SIZE", 10_000)
        run.put_many([NewFile(f"f{n}", b"x", meta={"note": "x" * 6_000}) for n in range(5)])
        for listing in ("files", "entries", "snapshots/1/changes"):
            items, pages = read_all(client, f"/api/v1{RUN}/{listing}")
            assert ([each["path"] for each in items], pages) == ([f"f{n}" for n in range(5)], 3)

    def test_a_file_has_versions_the_newest_first(self, worked, api, client):
        newest, first = api(f"{RUN}/versions", path="data/a.csv")["items"]
        assert (newest["version"], newest["agent"]) == (2, "engineer")
        assert api(f"{RUN}/file", path="data/a.csv") == newest
        assert api(f"{RUN}/file", path="data/a.csv", version=1) == first
        assert api(f"{RUN}/file", path="data/a.csv", at=1) == first
        assert api(f"{FILES}/{first['id']}") == first
        items, pages = read_all(client, f"/api/v1{RUN}/versions?path=data/a.csv&limit=1")
        assert (items, pages) == ([newest, first], 2)

    def test_snapshots_count_their_changes_and_name_their_maker(self, worked, api, client):
        newest, second, first = api(f"{RUN}/snapshots")["items"]
        counts = [(each["added"], each["changed"], each["removed"]) for each in (first, second)]
        assert counts == [(3, 0, 0), (1, 1, 1)]
        assert (first["agent"], second["node_id"]) == ("planner", "step_1")
        assert api(f"{RUN}/snapshots/3") == newest
        assert api(f"{RUN}/snapshots", agent="planner")["items"] == [first]
        items, pages = read_all(client, f"/api/v1{RUN}/snapshots?limit=2")
        assert (len(items), pages) == (3, 2)

    def test_a_snapshot_has_its_changes(self, worked, api):
        found = api(f"{RUN}/snapshots/2/changes")["items"]
        assert [(each["change"], each["path"]) for each in found] == [
            ("changed", "data/a.csv"), ("removed", "data/b.csv"), ("added", "plots/p.png"),
        ]  # fmt: skip
        assert found[0]["before"]["version"] == 1

    def test_two_states_or_runs_are_compared(self, worked, api):
        worked.fork("run-2", at=1)
        expected = ["data/a.csv", "data/b.csv", "plots/p.png", "report.html"]
        assert paths(api(f"{RUN}/diff", **{"from": 1, "to": 3})) == expected
        assert paths(api(f"{RUN}/diff", **{"from": 1})) == expected
        assert paths(api(f"{RUN}/diff", other="run-2")) == expected
        assert paths(api(f"{RUN}/diff", **{"other": "run-2", "from": 1, "to": 1})) == []

    def test_contents_are_compared(self, worked, api):
        newest, first = api(f"{RUN}/versions", path="data/a.csv")["items"]
        found = api("/sessions/session-1/compare", before=first["id"], after=newest["id"])
        assert (found["kind"], found["lines"][-1]) == ("text", "+3")

    def test_numbers_and_groups_of_a_run(self, worked, api):
        assert api(f"{RUN}/stats")["files_by_type"] == {
            "data": 1,
            "plan": 1,
            "plot": 1,
            "report": 1,
        }
        groups = api(f"{RUN}/groups", by="agent,phase")["items"]
        assert [(each["agent"], each["phase"], each["files"]) for each in groups] == [
            ("engineer", "control", 2), ("engineer", None, 1), ("planner", "planning", 1),
        ]  # fmt: skip

    def test_producers_of_bytes(self, worked, api):
        other = worked.put("copy.md", b"# Plan\n", agent="copier")
        found = api(f"/sessions/session-1/blobs/{other.digest}/producers")
        assert [each["agent"] for each in found["items"]] == ["planner", "copier"]
        short = api(f"/sessions/session-1/blobs/{str(other.digest)[:8]}/producers", limit=1)
        assert (short["digest"], short["is_complete"]) == (str(other.digest), False)

    def test_files_are_found_in_all_runs_of_a_session(self, store, worked, api):
        store.session("session-1").run("run-2").put("data/c.csv", b"n\n")
        found = api("/sessions/session-1/find", pattern="*.csv")
        assert (paths(found), found["is_complete"]) == (["data/a.csv", "data/c.csv"], True)
        assert not api("/sessions/session-1/find", pattern="*.csv", limit=1)["is_complete"]

    def test_files_are_found_by_an_expression(self, worked, api, client):
        worked.put("fit.json", b"{}", meta={"rmse": 0.05})
        where = "meta.rmse < 0.1 or name = 'plan.md'"
        assert paths(api("/sessions/session-1/find", where=where, pattern="fit")) == ["fit.json"]
        assert len(paths(api("/sessions/session-1/find", where=where))) == 2
        wrong = client.get("/api/v1/sessions/session-1/find", params={"where": "agnt = 'a'"})
        assert (wrong.status_code, wrong.json()["error"]) == (400, "InvalidExpressionError")
        assert "the closest is 'agent'" in wrong.json()["message"]

    def test_tags_name_snapshots_wherever_one_is_taken(self, worked, api):
        worked.tag("planned", at=1)
        assert [each["name"] for each in api(f"{RUN}/tags")["items"]] == ["planned"]
        assert len(api(f"{RUN}/files", at="planned")["items"]) == 3

    @on_one(because="an index holds any name, as tests of the library show on each")
    @pytest.mark.parametrize(
        "name", ["a b&c=d.txt", "50%.csv", "ü/é.txt", "x\ny", "?#", "\udcff.x"]
    )
    def test_every_name_can_be_asked_for(self, run, client, name):
        run.put(name, b"here")
        query = urlencode({"path": name}, errors="surrogateescape")
        found = client.get(f"/api/v1{RUN}/file?{query}").json()
        assert found["path"] == name
        assert client.get(f"/api/v1{FILES}/{found['id']}/content").content == b"here"
        listed = client.get(f"/api/v1{RUN}/files?limit=1").json()["items"]
        assert [each["path"] for each in listed] == [name]

    def test_every_id_can_be_asked_for(self, store, client):
        store.session("a b?#%").run("ü&=+").put("x", b"x")
        place = f"/api/v1/sessions/{quote('a b?#%', safe='')}/runs/{quote('ü&=+', safe='')}"
        assert client.get(place).json()["run"] == "ü&=+"


class TestLineage:
    @pytest.fixture
    def figure(self, store, worked):
        """A figure that another run made from a table."""
        other = store.session("session-1").run("run-2")
        worked.use("plan.md", node_id="clean", agent="cleaner")
        table = worked.put("table.csv", b"table", node_id="clean", agent="cleaner")
        other.use(table, node_id="plot", agent="plotter", phase="control")
        return other.put("figure.png", b"figure", node_id="plot", agent="plotter")

    def test_it_has_the_versions_activities_and_edges_of_the_library(self, store, figure, api):
        session = store.session("session-1")
        place = f"{FILES}/{figure.id}/lineage"
        assert api(place) == session.lineage(figure, depth=5, limit=200).to_dict()
        (source,) = (v for v in api(place)["versions"] if v["path"] == "plan.md")
        down = api(f"{FILES}/{source['id']}/lineage", direction="down", depth=1)
        assert paths({"items": down["versions"]}) == ["plan.md", "table.csv"]
        assert [each["agents"] for each in down["activities"]] == [["cleaner"]]
        both = api(f"{FILES}/{source['id']}/lineage", direction="both")
        assert "figure.png" in paths({"items": both["versions"]})

    def test_it_says_whether_it_is_all(self, figure, api, monkeypatch):
        place = f"{FILES}/{figure.id}/lineage"
        assert api(place)["complete"]
        assert not api(place, depth=1)["complete"]
        assert len(api(place, limit=1)["versions"]) == 1
        assert not api(place, limit=1)["complete"]
        monkeypatch.setattr("index.web.api._EDGES", 2)
        assert (len(api(place)["edges"]), api(place)["complete"]) == (2, False)

    @on_one(because="parameters are checked before a store is asked")
    @pytest.mark.parametrize("query", ["depth=0", "depth=51", "limit=501", "direction=back"])
    def test_it_is_bounded(self, figure, client, query):
        assert client.get(f"/api/v1{FILES}/{figure.id}/lineage?{query}").status_code == 400

    def test_inputs_of_a_run_come_in_pages_with_what_they_were_read_from(
        self, store, figure, client, api
    ):
        session = store.session("session-1")
        gone = session.run("gone").put("gone.csv", b"gone")
        outside = Reference("s3://ada:secret@bucket/raw.csv?key=x", digest=Digest.of(b"raw"))
        session.run("run-2").use(gone, outside, Digest.of(b"# Plan\n"), node_id="more")
        session.run("gone").delete()
        items, pages = read_all(client, "/api/v1/sessions/session-1/runs/run-2/inputs?limit=3")
        assert pages == 2
        assert [each["position"] for each in items] == [1, 2, 3, 4]
        assert [each["source"] and each["source"]["path"] for each in items] == [
            "table.csv", None, None, "plan.md",
        ]  # fmt: skip
        assert items[2]["uri"].startswith("s3://")
        assert "secret" not in str(items)
        assert "key=x" not in str(items)
        (first,) = api("/sessions/session-1/runs/run-2/inputs", agent="plotter")["items"]
        assert (first["path"], first["source_run"], first["phase"]) == (
            "table.csv", "run-1", "control",
        )  # fmt: skip

    def test_what_is_out_of_date_names_what_it_was_made_from(self, worked, figure, api, client):
        assert api("/sessions/session-1/stale")["items"] == []
        worked.put("table.csv", b"another table")
        (found,) = api("/sessions/session-1/stale")["items"]
        assert [found[name]["path"] for name in ("version", "used", "newer")] == [
            "figure.png", "table.csv", "table.csv",
        ]  # fmt: skip
        assert (found["used"]["version"], found["newer"]["version"]) == (1, 2)
        assert api("/sessions/session-1/stale", path="table.csv", run="run-1")["items"] == [found]
        elsewhere = client.get("/api/v1/sessions/session-1/stale?path=table.csv&run=run-2")
        assert elsewhere.status_code == 404
        worked.put("plan.md", b"# Another plan\n")
        refused = client.get("/api/v1/sessions/session-1/stale?limit=1")
        assert refused.status_code == 400
        assert "name a path, or a run" in refused.json()["message"]

    def test_what_another_session_made_from_the_same_bytes_is_not_in_it(self, store, run, api):
        mine = run.put("table.csv", b"table")
        theirs = store.session("theirs").run("their-run")
        theirs.use(theirs.put("their-table.csv", b"table"), node_id="their-node")
        theirs.put("their-figure.png", b"figure", node_id="their-node")
        theirs.put("their-table.csv", b"another table")
        run.put("table.csv", b"another table")
        for direction in ("up", "down", "both"):
            found = api(f"{FILES}/{mine.id}/lineage", direction=direction)
            assert "their" not in str(found)
            assert paths({"items": found["versions"]}) == ["table.csv"]
        assert api("/sessions/session-1/stale")["items"] == []


class TestDownloads:
    def content(self, client, version, **headers):
        return client.get(f"/api/v1{FILES}/{version.id}/content", headers=headers)

    def test_a_file_is_downloaded_with_its_digest_as_etag(self, worked, client):
        version = worked.file("data/a.csv")
        answer = self.content(client, version)
        assert answer.content == b"n\n1\n3\n"
        assert answer.headers["etag"] == f'"{version.digest}"'
        assert answer.headers["content-length"] == "6"
        assert Digest.of(answer.content) == version.digest
        by_digest = client.get(f"/api/v1/sessions/session-1/blobs/{version.digest}/content")
        assert by_digest.content == answer.content

    def test_who_has_the_bytes_is_told_so(self, worked, client):
        version = worked.file("data/a.csv")
        etag = f'"{version.digest}"'
        for header in (etag, f'"x", W/{etag}', "*"):
            answer = self.content(client, version, **{"If-None-Match": header})
            assert (answer.status_code, answer.content) == (304, b"")
        assert self.content(client, version, **{"If-None-Match": '"x"'}).status_code == 200
        for header in ('"x"', f"W/{etag}"):
            assert self.content(client, version, **{"If-Match": header}).status_code == 412
        assert self.content(client, version, **{"If-Match": etag}).status_code == 200

    @on_one(because="bytes are read by ranges in tests of the library on each")
    @pytest.mark.parametrize(
        ("header", "status", "part"),
        [
            ("bytes=2-5", 206, slice(2, 6)),
            ("bytes=2-", 206, slice(2, None)),
            ("bytes=-3", 206, slice(-3, None)),
            ("bytes=0-99999999", 206, slice(None)),
            ("bytes=-99999999", 206, slice(None)),
            ("bytes=1-2,4-5", 200, slice(None)),
            ("bytes=5-2", 200, slice(None)),
            ("lines=1-2", 200, slice(None)),
            ("bytes=-", 200, slice(None)),
        ],
    )
    def test_ranges(self, run, client, header, status, part):
        data = os.urandom(3 << 20)
        answer = self.content(client, run.put("big", data), Range=header)
        assert (answer.status_code, answer.content) == (status, data[part])
        if status == 206:
            start, end, _ = part.indices(len(data))
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(data)}"

    def test_a_range_beyond_the_end_can_not_be_satisfied(self, run, client):
        for data in (b"12345", b""):
            version = run.put(f"f{len(data)}", data)
            answer = self.content(client, version, Range=f"bytes={len(data)}-")
            assert answer.status_code == 416
            assert answer.headers["content-range"] == f"bytes */{len(data)}"

    def test_a_range_of_other_bytes_gets_all(self, run, client):
        version = run.put("f", b"12345")
        for header, status in ((f'"{version.digest}"', 206), ('"other"', 200)):
            answer = self.content(client, version, **{"Range": "bytes=1-2", "If-Range": header})
            assert answer.status_code == status

    def test_head_reads_no_bytes(self, run, client, objects):
        version = run.put("f", os.urandom(2 << 20))
        for name in packs_of(objects):
            objects.remove(name)
        place = f"/api/v1{FILES}/{version.id}/content"
        answer = client.head(place, headers={"Range": "bytes=2-3"})  # which is for GET alone
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(2 << 20)

    @on_one(because="a type follows from a name")
    @pytest.mark.parametrize(
        ("name", "kind", "shown"),
        [
            ("a.png", "image/png", "inline"),
            ("a.csv", "text/plain; charset=utf-8", "inline"),
            ("a.py", "text/plain; charset=utf-8", "inline"),
            ("a.pdf", "application/pdf", "inline"),
            ("a.html", "text/html; charset=utf-8", "attachment"),
            ("a.svg", "image/svg+xml", "attachment"),
            ("a.xml", "application/xml", "attachment"),
            ("a.pkl", "application/octet-stream", "attachment"),
            ("a", "application/octet-stream", "attachment"),
        ],
    )
    def test_what_may_be_active_is_saved_and_not_shown(self, run, client, name, kind, shown):
        version = run.put(name, b"<script>alert(1)</script>")
        answer = self.content(client, version)
        assert answer.headers["content-type"] == kind
        assert answer.headers["content-disposition"].startswith(f"{shown};")
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox;") is (name != "a.pdf")
        assert "script-src" not in policy
        assert "default-src 'none'" in policy
        saved = client.get(f"/api/v1{FILES}/{version.id}/content?download=true")
        assert saved.headers["content-disposition"].startswith("attachment;")

    def test_a_name_can_not_break_out_of_its_header(self, run, client):
        version = run.put('a"; x=\r\nSet-Cookie: y.html', b"")
        header = self.content(client, version).headers["content-disposition"]
        assert header.count('"') == 2
        assert "\n" not in header
        assert "set-cookie" not in self.content(client, version).headers

    def test_missing_bytes_are_no_success(self, run, client, objects):
        version = run.put("f", b"gone soon")
        for name in packs_of(objects):
            objects.remove(name)
        answer = self.content(client, version)
        assert answer.status_code == 500
        assert "damaged" in answer.json()["message"]

    def test_ranges_of_any_header(self):
        assert read_range("bytes=0-0", 1) == range(1)
        assert read_range("bytes=-0", 5) == range(5, 5)
        assert read_range("bytes=99999999999999999999-", 5) is None
        assert read_range("", 5) is None


class TestArchives:
    def members(self, client, kind, **query):
        answer = client.get(f"/api/v1{RUN}/archive", params={"format": kind, **query})
        assert answer.status_code == 200
        if kind == "zip":
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                assert archive.testzip() is None
                return {name: archive.read(name) for name in archive.namelist()}
        with tarfile.open(fileobj=io.BytesIO(answer.content), errors="surrogateescape") as archive:
            return {
                each.name: archive.extractfile(each).read() if each.isreg() else each.linkname
                for each in archive
            }

    @pytest.mark.parametrize("kind", ["zip", "tar"])
    def test_a_directory_at_a_snapshot_is_one_file(self, worked, client, kind):
        assert self.members(client, kind, path="data", at=1) == {
            "a.csv": b"n\n1\n", "b.csv": b"n\n2\n",
        }  # fmt: skip
        assert [*self.members(client, kind)] == [
            "data/a.csv", "plan.md", "plots/p.png", "report.html",
        ]  # fmt: skip

    @pytest.mark.parametrize("kind", ["zip", "tar"])
    def test_large_and_empty_files_are_whole(self, run, client, kind):
        data = {"large": os.urandom(3 << 20) + bytes(1 << 20), "empty": b"", "x" * 200: b"long"}
        run.put_many(data.items())
        assert self.members(client, kind) == data

    @pytest.mark.parametrize("kind", ["zip", "tar"])
    def test_links_that_lead_out_are_left_out_and_named(self, run, work, client, kind):
        (work / "d").mkdir()
        write(work, {"d/f": b"f"})
        targets = {
            "d/in": "f", "d/up": "../d/f", "out": "../secret", "d/far": "../../x", "abs": "/etc",
            "d/odd": "g/../../..",
        }  # fmt: skip
        for name, target in targets.items():
            (work / name).symlink_to(target)
        run.track(work)
        run.put_many([])
        found = self.members(client, kind)
        listed = {each.path for each in run.files()}
        left_out = {name for name in targets if name in listed} - {"d/in", "d/up"}
        assert found.keys() - {"LEFT-OUT.txt"} == listed - left_out
        if left_out:
            assert all(
                f"{name}: it is a link" in found["LEFT-OUT.txt"].decode() for name in left_out
            )

    @pytest.mark.parametrize("kind", ["zip", "tar"])
    def test_the_list_of_what_is_left_out_replaces_no_file(self, run, work, client, kind):
        write(work, {"LEFT-OUT.txt": b"theirs"})
        (work / "out").symlink_to("/etc")
        run.track(work)
        found = self.members(client, kind)
        assert found["LEFT-OUT.txt"] == b"theirs"
        assert found["_LEFT-OUT.txt"].startswith(b"out: it is a link")

    def test_names_of_zip_files_mean_the_same_everywhere(self, run, client):
        run.put_many([("a\\..\\b", b"1"), ("\udcff", b"2"), ("x\ny", b"3")])
        assert self.members(client, "zip") == {"a%5C..%5Cb": b"1", "%FF": b"2", "x%0Ay": b"3"}
        assert self.members(client, "tar") == {"a\\..\\b": b"1", "\udcff": b"2", "x\ny": b"3"}

    def test_a_missing_directory_has_none(self, worked, client):
        answer = client.get(f"/api/v1{RUN}/archive?path=nothing")
        assert answer.status_code == 404

    def test_so_many_archives_are_sent_at_once(self, worked, client, monkeypatch):
        monkeypatch.setattr("index.web.asgi.ARCHIVES", 1)
        for _ in range(3):  # each is over before the next one begins
            self.members(client, "zip")
        assert client.get(f"/api/v1{RUN}/archive?path=nothing").status_code == 404
        self.members(client, "zip")
        monkeypatch.setattr("index.web.asgi.ARCHIVES", 0)
        refused = client.get(f"/api/v1{RUN}/archive")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        assert client.head(f"/api/v1{RUN}/archive").status_code == 200


class TestWhatIsNotThere:
    """Another session's ids are answered as ids that do not exist."""

    @pytest.fixture
    def other(self, store, worked):
        run = store.session("theirs").run("their-run")
        run.put("secret.txt", b"their secret")
        run.tag("theirs")
        return run

    PLACES = (
        "/sessions/{s}/runs", "/sessions/{s}/runs/{r}", "/sessions/{s}/runs/{r}/files",
        "/sessions/{s}/runs/{r}/entries", "/sessions/{s}/runs/{r}/stats",
        "/sessions/{s}/runs/{r}/tags", "/sessions/{s}/runs/{r}/groups?by=agent",
        "/sessions/{s}/runs/{r}/file?path=secret.txt", "/sessions/{s}/runs/{r}/snapshots",
        "/sessions/{s}/runs/{r}/versions?path=secret.txt", "/sessions/{s}/runs/{r}/snapshots/1",
        "/sessions/{s}/runs/{r}/snapshots/1/changes", "/sessions/{s}/runs/{r}/diff",
        "/sessions/{s}/runs/{r}/archive", "/sessions/{s}/runs/{r}/events",
        "/sessions/{s}/events", "/sessions/{s}/find", "/sessions/{s}/files/{f}",
        "/sessions/{s}/files/{f}/content", "/sessions/{s}/files/{f}/preview",
        "/sessions/{s}/files/{f}/lineage", "/sessions/{s}/runs/{r}/inputs", "/sessions/{s}/stale",
        "/sessions/{s}/blobs/{d}/content", "/sessions/{s}/blobs/{d}/producers",
        "/sessions/{s}/compare?before={f}&after={f}", "/runs?before={s}/{r}",
    )  # fmt: skip

    @on_one(because="a grant is checked before a store is asked")
    @pytest.mark.parametrize("path", PLACES)
    def test_a_session_that_is_not_granted_is_as_one_that_is_not_there(
        self, client_of, other, path
    ):
        client = client_of(Grant.of("session-1"))
        version = other.file("secret.txt")
        there = {"s": "theirs", "r": "their-run", "f": version.id, "d": version.digest}
        nowhere = {"s": "nobody", "r": "no-run", "f": 999_999, "d": Digest.of(b"no")}
        answers = [client.get(f"/api/v1{path.format(**ids)}") for ids in (there, nowhere)]
        assert [each.status_code for each in answers] == [404, 404]
        texts = [
            each.text.replace(ids["s"], "S").replace(ids["r"], "R")
            for each, ids in zip(answers, (there, nowhere), strict=True)
        ]
        assert texts[0] == texts[1]

    @on_one(because="the library's sessions are as isolated on each index, as its tests show")
    @pytest.mark.parametrize("path", PLACES)
    def test_ids_of_another_session_do_not_work_in_a_granted_one(self, client_of, other, path):
        client = client_of(Grant.of("session-1"))
        version = other.file("secret.txt")
        there = {"s": "session-1", "r": "their-run", "f": version.id, "d": version.digest}
        nowhere = {"s": "session-1", "r": "no-run", "f": 999_999, "d": Digest.of(b"no")}
        if "{r}" not in path and "{f}" not in path and "{d}" not in path:
            return
        answers = [client.get(f"/api/v1{path.format(**ids)}") for ids in (there, nowhere)]
        assert [each.status_code for each in answers] == [404, 404]
        texts = [
            each.text.replace(str(ids["d"]), "D").replace(str(ids["r"]), "R")
            .replace(f"file {ids['f']}", "file F")
            for each, ids in zip(answers, (there, nowhere), strict=True)
        ]  # fmt: skip
        assert texts[0] == texts[1]

    def test_lists_name_no_other_session(self, client_of, other):
        client = client_of(Grant.of("session-1"))
        for place in ("/runs", "/sessions", "/sessions/session-1/runs"):
            assert "their" not in client.get(f"/api/v1{place}").text

    def test_only_the_owner_sees_the_store(self, client_of, other):
        assert client_of().get("/api/v1/storage").status_code == 200
        refused = client_of(Grant.of("session-1")).get("/api/v1/storage")
        nothing = client_of(Grant.of("session-1")).get("/api/v1/nothing")
        assert (refused.status_code, refused.json()["message"]) == (404, nothing.json()["message"])


class TestRequests:
    @on_one(because="parameters are checked before a store is asked")
    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("limit=0", "limit is a whole number from 1 to 1000, not '0'"),
            ("limit=1&limit=2", "limit is given twice"),
            ("colour=red", "'colour' is no parameter of this; it takes phase,"),
            ("at=", "at is the number or the tag of a snapshot"),
            ("at=%D9%A3", "'٣' can't be the tag"),
            ("final=yes", "final is true or false, not 'yes'"),
            ("order_by=name", "order_by is one of appearance, path,"),
            ("glob=/etc", "glob is a pattern relative to the work directory"),
            ("after=../x", "it contains '..'"),
            ("prefix=%00", "NUL"),
        ],
    )
    def test_a_parameter_that_can_not_be_used_is_named(self, worked, client, query, says):
        answer = client.get(f"/api/v1{RUN}/files?{query}")
        assert answer.status_code == 400
        assert says in answer.json()["message"]

    def test_a_parameter_may_be_required(self, worked, client):
        assert client.get(f"/api/v1{RUN}/file").json()["message"] == "path must be given"

    @on_one(because="no store is asked")
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_nothing_can_be_changed(self, worked, client, method):
        assert client.request(method, f"/api/v1{RUN}").status_code == 405

    def test_no_answer_names_a_place_of_the_server(self, worked, work, client, place):
        worked.record(["true"], work)
        from index.web.endpoints import ENDPOINTS, PREFIX

        version = worked.file("plan.md")
        values = {
            "{session}": "session-1", "{run}": "run-1", "{file_id:number}": str(version.id),
            "{digest}": str(version.digest), "{number:number}": "4",
        }  # fmt: skip
        known = {"path": "plan.md", "by": "agent"}
        asked = set()
        for each in ENDPOINTS:
            path = each.path
            for name, value in values.items():
                path = path.replace(name, value)
            query = {p.name: known[p.name] for p in each.parameters if p.is_required}
            if each.name == "compare":
                query["before"] = version.id
            answer = client.get(PREFIX + path, params=query)
            assert answer.status_code == 200, (path, answer.text)
            asked.add(each.name)
            for secret in (str(work), str(place.get("root", "://")), "://"):
                assert secret not in answer.text, path
        assert len(asked) > 20

    def test_a_store_that_fails_says_nothing_of_where_it_is(self, worked, client, store):
        store.close()
        answer = client.get(f"/api/v1{RUN}")
        assert answer.status_code == 503
        assert answer.json()["message"] == "the store can't be read now; try again later"


@on_one(because="a preview waits for a worker, not for a store")
def test_slow_previews_leave_other_requests_their_place(store, run, monkeypatch):
    ids = [run.put(f"{n}.txt", b"%d" % n).id for n in range(30)]
    release, take = threading.Event(), Previewer._take

    def taken(previewer):
        release.wait(120)
        return take(previewer)

    patient = {**Previewer.__init__.__kwdefaults__, "timeout": 120.0}
    monkeypatch.setattr(Previewer.__init__, "__kwdefaults__", patient)
    monkeypatch.setattr(Previewer, "_take", taken)
    app = application(store, authorize=lambda _request: Grant())
    with TestClient(app) as client, ThreadPoolExecutor(31) as pool:
        try:
            shown = [pool.submit(client.get, f"/api/v1{FILES}/{each}/preview") for each in ids]
            other = pool.submit(client.get, f"/api/v1{RUN}")
            assert other.result(timeout=60).status_code == 200
        finally:
            release.set()
        kinds = Counter(each.result().json()["kind"] for each in shown)
    assert kinds == {"text": 8, "refused": 22}


def test_a_number_with_very_many_digits_names_nothing(client):
    for place in (f"{FILES}/{{}}", f"{RUN}/snapshots/{{}}"):
        assert client.get("/api/v1" + place.format("9" * 5_000)).status_code == 404


@on_one(because="tokens, hosts and origins are checked before a store is asked")
class TestWhoAsks:
    """Tokens, hosts and origins."""

    @pytest.fixture
    def tokens(self):
        return Tokens({OWNER: Grant(), SCOPED: Grant.of("session-1")})

    @pytest.fixture
    def visitor(self, store, worked, tokens):
        store.session("theirs").run("r").put("x", b"x")
        app = application(store, authorize=tokens, hosts=["127.0.0.1", "localhost"])
        yield TestClient(app, base_url="http://127.0.0.1:8400")
        app.state.close()

    def test_without_a_token_nothing_is_answered(self, visitor):
        answer = visitor.get("/api/v1/runs")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        for header in ("", "Bearer", "Bearer x", f"Basic {OWNER}", f"Bearer {OWNER}x"):
            refused = visitor.get("/api/v1/runs", headers={"Authorization": header})
            assert refused.status_code == 401
        assert visitor.get("/api/v1/nothing").status_code == 404

    def test_a_token_shows_what_it_grants(self, visitor):
        def sessions(token):
            bearer = {"Authorization": f"Bearer {token}"}
            found = visitor.get("/api/v1/sessions", headers=bearer).json()["items"]
            return [each["session"] for each in found]

        assert sessions(OWNER) == ["session-1", "theirs"]
        assert sessions(SCOPED) == ["session-1"]

    def test_a_link_logs_in_once(self, visitor, tokens):
        code = tokens.make_code(SCOPED)
        answer = visitor.get(f"/login?code={code}&next=/api/v1/sessions", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/api/v1/sessions")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert visitor.get("/api/v1/sessions").status_code == 200
        visitor.cookies.clear()
        assert visitor.get(f"/login?code={code}", follow_redirects=False).status_code == 401

    def test_a_token_logs_in_too(self, visitor):
        refused = visitor.post("/login", data={"token": "wrong"}, follow_redirects=False)
        assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)
        taken = visitor.post("/login", data={"token": f" {OWNER} "}, follow_redirects=False)
        assert taken.status_code == 303

    def test_looking_at_a_link_does_not_use_it_up(self, visitor, tokens):
        place = f"/login?code={tokens.make_code(OWNER)}"
        looked = visitor.head(place, follow_redirects=False)
        assert (looked.status_code, "set-cookie" in looked.headers) == (401, False)
        assert visitor.get(place, follow_redirects=False).status_code == 303

    def test_a_login_reads_no_more_than_a_form(self, visitor):
        refused = visitor.post("/login", content=b"token=&" * 3_000)
        assert (refused.status_code, refused.headers["connection"]) == (413, "close")
        filled = f"token={OWNER}&x={'y' * 16_000}"
        taken = visitor.post("/login", content=filled, follow_redirects=False)
        assert taken.status_code == 303

    def test_a_login_goes_on_to_the_page_that_was_asked_for(self, visitor, tokens):
        wanted = "/sessions/a%3Fb/runs/c%23d%25%20e?path=f%ff"
        sent = visitor.get(wanted, follow_redirects=False).headers["location"]
        code = tokens.make_code(OWNER)
        answer = visitor.get(f"{sent}&code={code}", follow_redirects=False)
        assert answer.headers["location"] == wanted

    @pytest.mark.parametrize("elsewhere", ["//evil.example/", "https://evil.example/", "/\\evil"])
    def test_a_login_leads_nowhere_else(self, visitor, tokens, elsewhere):
        code = tokens.make_code(OWNER)
        query = urlencode({"code": code, "next": elsewhere})
        answer = visitor.get(f"/login?{query}", follow_redirects=False)
        assert answer.headers["location"] == "/"

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8400", "127.0.0.1.evil", ""])
    def test_another_name_of_the_server_is_refused(self, visitor, host):
        bearer = {"Authorization": f"Bearer {OWNER}", "Host": host}
        refused = visitor.get("/api/v1/runs", headers=bearer)
        assert (refused.status_code, refused.headers["x-content-type-options"]) == (421, "nosniff")

    @pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST:1", "localhost:8400"])
    def test_its_own_names_are_answered(self, visitor, host):
        bearer = {"Authorization": f"Bearer {OWNER}", "Host": host}
        assert visitor.get("/api/v1/runs", headers=bearer).status_code == 200

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9"])
    def test_pages_of_other_sites_are_refused(self, visitor, origin):
        bearer = {"Authorization": f"Bearer {OWNER}", "Origin": origin}
        status = visitor.get("/api/v1/runs", headers=bearer).status_code
        assert status == (200 if origin.endswith(":9") else 403)

    def test_its_own_pages_are_answered(self, visitor):
        own = {"Authorization": f"Bearer {OWNER}", "Origin": "http://127.0.0.1:8400"}
        assert visitor.get("/api/v1/runs", headers=own).status_code == 200

    def test_an_application_may_decide_on_its_loop(self, store, worked):
        async def authorize(request):
            user = request.headers.get("x-user")
            return None if user is None else Grant.of(user)

        app = application(store, authorize=authorize)
        with TestClient(app) as client:
            assert client.get("/api/v1/runs").status_code == 401
            found = client.get("/api/v1/runs", headers={"X-User": "session-1"})
            assert [each["run"] for each in found.json()["items"]] == ["run-1"]


@pytest.mark.parametrize("token", ["short", "with spaces in the middle", "ümlaut-in-a-token-x"])
def test_a_token_must_be_hard_to_guess_and_easy_to_send(token):
    with pytest.raises(ValueError, match="a token is at least 16 printable"):
        Tokens({token: Grant()})


def test_codes_do_not_pile_up():
    tokens = Tokens({OWNER: Grant()})
    first = tokens.make_code(OWNER)
    for _ in range(100):
        last = tokens.make_code(OWNER)
    assert tokens.redeem(first) is None
    assert tokens.redeem(last) == OWNER
    assert tokens.redeem(last) is None
