"""The examination of a store: what it finds, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from damage import flip
from fault_proxy import Fault
from places import bytes_of, credentials_of, on, on_one, packs_of, through

from cas.probe import Features
from index import ArtifactStore, doctor
from index.maintenance.doctor import installation, surroundings
from index.maintenance.doctor.report import DoctorLevel

NOWHERE = "postgresql+psycopg://127.0.0.1:9/none"
"""The port of a service that nobody runs."""


def levels(report):
    """Return the worst level of each check."""
    order = list(DoctorLevel)
    found = {}
    for each in report.findings:
        worst = max(order.index(each.level), order.index(found.get(each.check, DoctorLevel.OK)))
        found[each.check] = order[worst]
    return found


def finding(report, check, level="problem"):
    (found,) = [each for each in report.findings if (each.check, each.level) == (check, level)]
    return found


def later(**span):
    return lambda: datetime.now(UTC) + timedelta(**span)


def whole(place):
    """Return all that a store keeps in files or objects."""
    if "root" not in place:
        return bytes_of(place)
    files = [path for path in Path(place["root"]).rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files}


def test_a_store_in_use_is_well_and_stays_as_it_is(place):
    with ArtifactStore.open(**place) as store:
        store.session("s").run("r").put("a", b"a")
        store.back_up()
    before = whole(place)
    report = doctor(**place)
    assert report.is_well
    assert set(levels(report).values()) == {"ok"}, report
    assert whole(place) == before
    assert {"versions", "packages", "storage", "index", "schema", "rights"} <= levels(report).keys()
    assert {"pairing", "verify", "gc", "backup", "space", "clock"} <= levels(report).keys()


def test_a_store_that_others_use_can_be_examined(store, place):
    store.session("s").run("r").put("a", b"a")
    assert doctor(**place).is_well


@on(blobs="s3", because="only its requests are counted")
def test_an_examination_sends_few_requests_however_many_packs_there_are(place, store, proxy):
    counts = []
    for number in range(2):
        before = proxy.counts.total()
        assert doctor(**through(place, proxy)).is_well
        counts.append(proxy.counts.total() - before)
        for n in range(10):
            store.session("s").run(f"r{number}").put(f"f{n}", b"f%d" % n)
    assert counts[0] == counts[1] <= 8
    assert proxy.counts["LIST"] <= 4


def test_a_report_shows_no_password(tmp_path):
    index = "postgresql+psycopg://user:s3cret@127.0.0.1:9/none"
    report = doctor(index=index, blobs=tmp_path / "none", wait=0)
    assert "s3cret" not in str(report.to_dict())
    assert "127.0.0.1:9" in str(report.to_dict())


def test_without_a_store_there_is_one_problem_and_nothing_is_created(tmp_path):
    report = doctor(tmp_path / "none")
    assert [each.check for each in report.findings if each.level == "problem"] == ["storage"]
    assert not report.is_well
    assert os.listdir(tmp_path) == []
    report = doctor(index=f"sqlite:///{tmp_path}/i.db", blobs=tmp_path / "none")
    assert [each.check for each in report.findings if each.level == "problem"] == ["storage"]
    assert os.listdir(tmp_path) == []


@on(blobs="local", because="the file is beside the blobs")
def test_a_lost_index_is_a_problem_with_its_remedy(place):
    Path(place["root"], "index.db").unlink()
    report = doctor(**place)
    assert "index.recover(…)" in finding(report, "index").advice
    assert levels(report)["storage"] == "ok"
    assert not Path(place["root"], "index.db").exists()
    Path(place["root"], "index.db").touch()
    assert finding(doctor(**place), "index")
    assert Path(place["root"], "index.db").read_bytes() == b""


@on(blobs="local", because="the file is beside the blobs")
@pytest.mark.parametrize("content", [b"no database " * 100, b"SQLite format 3\0" + bytes(2000)])
def test_a_broken_index_is_a_problem_and_stays_as_it_is(place, content):
    file = Path(place["root"], "index.db")
    file.write_bytes(content)
    report = doctor(**place)
    assert "can't be used" in finding(report, "index").detail
    assert file.read_bytes() == content


@on(blobs="local", because="the file is the same on all")
def test_a_broken_claim_is_a_problem_of_its_own(place):
    Path(place["root"], "index.json").write_text("{")
    found = finding(doctor(**place), "storage")
    assert "index.json of the store" in found.detail
    assert found.advice is None


@on_one(because="the database is another one")
def test_a_database_that_is_down_is_one_problem_of_many_checks(place):
    report = doctor(index=NOWHERE, blobs=place["root"], wait=0)
    assert "can't be used" in finding(report, "index").detail
    assert levels(report)["storage"] == "ok"


@on(blobs="s3", because="only remote storage can be down")
def test_storage_that_is_down_is_a_problem_and_the_index_is_examined(place):
    options = {**place["storage_options"], "endpoint_url": "http://127.0.0.1:9"}
    report = doctor(**{**place, "storage_options": options}, wait=0)
    assert finding(report, "storage").advice == "check the URL, the credentials and the network"
    assert levels(report)["schema"] == "ok"
    assert "pairing" not in levels(report)


@on_one(because="the file shows what others lock")
def test_a_lock_of_another_writer_is_a_warning(place):
    with closing(sqlite3.connect(Path(place["root"], "index.db"))) as other:
        other.execute("BEGIN IMMEDIATE")
        found = finding(doctor(**place, wait=0), "rights", "warning")
    assert "locked by another writer" in found.detail


def test_another_schema_names_the_command(place, store):
    store.context.database.write(
        lambda connection: connection.exec_driver_sql(
            "UPDATE cas_alembic_version SET version_num = '0000'"
        )
    )
    found = finding(doctor(**place), "schema").detail
    assert "has schema 0000" in found
    assert "; run `" in found


@on(index="postgresql", because="only a server has databases without tables of ours")
def test_a_database_without_tables_is_a_problem(place, postgres):
    empty = postgres.create()
    report = doctor(**{**place, "index": empty})
    assert "no tables" in finding(report, "schema").detail
    postgres.drop(empty)


@on(blobs="local", because="the pairing is the same on all")
def test_storage_of_another_index_is_a_problem(place, stores, tmp_path):
    other = stores.nowhere("sqlite-local")
    ArtifactStore.open(**other).close()
    index = f"sqlite:///{place['root']}/index.db"
    found = finding(doctor(index=index, blobs=other["root"]), "pairing")
    assert "belongs to other storage" in found.detail
    claim = Path(place["root"], "index.json")
    claim.write_text('{"index_id": "another"}')
    assert "belongs to another index" in finding(doctor(**place), "pairing").detail
    claim.unlink()
    assert finding(doctor(**place), "pairing", "warning")


def test_storage_of_a_newer_format_is_a_problem(place, objects):
    settings = json.loads(objects.read("cas.json"))
    objects.write("cas.json", json.dumps({**settings, "format_version": 99}).encode())
    report = doctor(**place)
    assert "pip install --upgrade runcas" in finding(report, "storage").detail
    assert levels(report)["schema"] == "ok"


class TestUpkeep:
    def test_what_was_not_verified_collected_or_backed_up_for_long_is_a_warning(self, place, store):
        run = store.session("s").run("r")
        run.put("a", b"a" * 1000)
        store.back_up()
        store.session("s").run("gone").put("b", b"b" * 1000)
        store.session("s").run("gone").delete()
        store.plan_gc(grace=timedelta(0)).execute()
        assert set(levels(doctor(**place)).values()) == {"ok"}
        found = levels(doctor(**place, clock=later(days=8)))
        assert (found["verify"], found["backup"]) == ("ok", "warning")
        report = doctor(**place, clock=later(days=31))
        assert levels(report)["verify"] == "warning"
        assert "not verified in the last 31 days" in finding(report, "verify", "warning").detail
        assert report.is_well

    def test_garbage_that_nobody_removes_is_a_warning(self, place, store, monkeypatch):
        store.session("s").run("gone").put("b", b"b" * 1000)
        store.session("s").run("gone").delete()
        with ArtifactStore.open(**place, clock=later(days=2)) as ahead:
            assert ahead.plan_gc().execute().condemned.blobs
        assert levels(doctor(**place, clock=later(days=4)))["gc"] == "ok"
        found = finding(doctor(**place, clock=later(days=6)), "gc", "warning")
        assert "store.plan_gc().execute()" in found.advice

    def test_a_pack_whose_writer_died_is_garbage_too(self, place, store):
        with store.context.blobs.batch() as batch:
            batch.add(b"x" * 1000)
            batch.finish()
        assert levels(doctor(**place, clock=later(days=4)))["gc"] == "warning"

    def test_no_copy_of_the_index_is_a_warning_once_something_is_stored(self, place, store):
        assert "backup" not in levels(doctor(**place))
        store.session("s").run("r").put("a", b"a")
        assert "store.back_up()" in finding(doctor(**place), "backup", "warning").advice

    def test_damage_is_a_problem(self, place, store, objects):
        store.session("s").run("r").put("a", b"a" * 1000)
        (pack,) = packs_of(objects)
        objects.write(pack, flip(objects.read(pack), 40))
        store.verify(depth="bytes")
        found = finding(doctor(**place), "verify")
        assert "store.repair(DIR)" in found.advice


class TestClocks:
    @on(index="postgresql", blobs="s3", because="these tell their time")
    def test_another_clock_than_that_of_the_services_is_a_warning(self, place):
        report = doctor(**place, clock=later(hours=1))
        found = [each for each in report.findings if each.check == "clock"]
        assert [each.level for each in found] == ["warning", "warning"]
        assert [each.detail.split(":")[0] for each in found] == ["storage", "database"]
        assert "behind this host's clock" in found[0].detail

    @on_one(because="only a directory has file times")
    def test_the_times_of_files_are_compared(self, place, monkeypatch):
        features(monkeypatch, clock_ahead_s=-5.0)
        assert "5 s behind" in finding(doctor(**place), "clock", "warning").detail


def features(monkeypatch, **different):
    """Let the filesystem have other features than this one."""
    usual = {"has_links": True, "has_locks": True, "syncs_directories": True}
    found = Features(**{**usual, "folds_case": False, "clock_ahead_s": 0.0, **different})
    monkeypatch.setattr(surroundings, "probe_directory", lambda _: found)


@on_one(because="only a directory has a filesystem")
class TestFilesystem:
    @pytest.mark.parametrize(
        ("missing", "said"),
        [
            (("has_locks",), "no locks"),
            (("has_links", "has_locks"), "neither hard links nor locks"),
            (("syncs_directories",), "power loss"),
        ],
    )
    def test_what_it_lacks_is_a_warning(self, place, monkeypatch, missing, said):
        features(monkeypatch, **dict.fromkeys(missing, False))
        assert said in finding(doctor(**place), "filesystem", "warning").detail

    def test_missing_links_cost_nothing(self, place, monkeypatch):
        features(monkeypatch, has_links=False)
        assert levels(doctor(**place))["filesystem"] == "ok"

    def test_folded_case_is_told(self, place, monkeypatch):
        features(monkeypatch, folds_case=True)
        assert "does not tell a from A" in finding(doctor(**place), "filesystem", "ok").detail

    def test_an_index_on_a_network_filesystem_is_a_warning(self, place, monkeypatch):
        monkeypatch.setattr("index.maintenance.doctor.index_checks.filesystem_of", lambda _: "nfs4")
        assert "over nfs4" in finding(doctor(**place), "index", "warning").detail

    def test_a_directory_that_cannot_be_written_is_a_warning(self, place, monkeypatch):
        allowed = os.access
        monkeypatch.setattr(
            os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode)
        )
        assert "can't be written" in finding(doctor(**place), "filesystem", "warning").detail

    def test_an_index_that_cannot_be_written_is_a_warning(self, place, tmp_path):
        # SQLite can't make the files of its log, not even for root.
        Path(place["root"], "index.db-shm").symlink_to(tmp_path / "missing" / "file")
        report = doctor(**place)
        assert "it can only be read" in finding(report, "rights", "warning").detail
        assert levels(report)["pairing"] == "ok"

    @pytest.mark.parametrize(
        ("free", "inodes", "level"),
        [
            (10 << 30, 9, "ok"),
            (600 << 20, 9, "warning"),
            (1 << 20, 9, "problem"),
            (10 << 30, 0, "problem"),
        ],
    )
    def test_little_space_is_told(self, place, monkeypatch, free, inodes, level):
        disk = SimpleNamespace(
            f_bavail=free // 4096, f_frsize=4096, f_blocks=1 << 30, f_files=9, f_favail=inodes
        )
        monkeypatch.setattr(surroundings.os, "statvfs", lambda _: disk)
        assert levels(doctor(**place))["space"] == level

    def test_files_of_killed_writers_are_counted(self, place):
        left = Path(place["root"], "tmp", "left")
        left.write_bytes(b"x" * 2048)
        assert "leftovers" not in levels(doctor(**place))
        found = finding(doctor(**place, clock=later(days=2)), "leftovers", "warning")
        assert "1 files of killed writers in tmp/, 2.0 KiB" in found.detail
        assert left.exists()


def test_copies_of_damaged_objects_are_told(place, objects):
    objects.write("damaged/one", b"x")
    assert "1 copies" in finding(doctor(**place), "leftovers", "warning").detail


@on(blobs="s3", because="only a service has permissions of its own")
def test_storage_that_can_only_be_read_is_a_warning(place, proxy):
    with proxy.fault(Fault.EXPIRED_TOKEN, method="PUT", times=None):
        found = finding(doctor(**through(place, proxy), wait=0), "storage", "warning")
    assert "not written" in found.detail


@on(blobs="s3", because="only remote blobs are cached")
class TestCache:
    def test_a_new_cache_is_not_created(self, place, tmp_path):
        report = doctor(**place, cache=tmp_path / "new")
        assert "will be created" in finding(report, "cache", "ok").detail
        (tmp_path / "empty").mkdir()
        doctor(**place, cache=tmp_path / "empty")
        assert sorted(tmp_path.rglob("*/*")) == []
        assert not (tmp_path / "new").exists()

    def test_a_cache_in_use_shows_its_size(self, place, tmp_path):
        with ArtifactStore.open(**place, cache=tmp_path / "cache") as store:
            store.session("s").run("r").put("a", b"a" * 1000)
            store.session("s").run("r").read_bytes("a")
        report = doctor(**place, cache=tmp_path / "cache", cache_size=1 << 30)
        assert "of 1.0 GiB used" in next(f.detail for f in report.findings if f.check == "cache")

    def test_another_directory_is_a_problem(self, place, tmp_path):
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "thesis.tex").touch()
        assert "thesis.tex" in finding(doctor(**place, cache=tmp_path / "cache"), "cache").detail


class TestInstallation:
    def test_an_old_package_is_a_problem(self, tmp_path, monkeypatch):
        monkeypatch.setattr(installation.metadata, "requires", lambda _: REQUIRED)
        versions = {"runcas": "1", "sqlalchemy": "2.0.9", "click": "8.1.8", "psycopg": "3.2"}
        monkeypatch.setattr(installation.metadata, "version", versions.__getitem__)
        found = [each for each in installation.check_installation({"postgres"}) if each.advice]
        assert [each.detail for each in found] == [
            "sqlalchemy is 2.0.9, and runcas needs sqlalchemy<3,>=2.0.36"
        ]
        assert "runcas[postgres]" in found[0].advice

    def test_a_missing_package_is_a_problem(self, monkeypatch):
        def version(name):
            raise installation.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(installation.metadata, "requires", lambda _: REQUIRED[:1])
        monkeypatch.setattr(installation.metadata, "version", version)
        (found,) = [each for each in installation.check_installation(()) if each.advice]
        assert found.detail == "click is missing"

    @pytest.mark.parametrize(
        ("version", "bounds", "fits"),
        [
            ("8.1.8", ">=8.1.8", True),
            ("8.1.10", ">=8.1.8", True),
            ("8.2", ">=8.1.8", True),
            ("8.1", ">=8.1.0", True),
            ("3.0.0rc1", "<3,>=2", False),
            ("2.1.9", "<3,>=2.0.36", True),
            ("2026.9.0", "", True),
        ],
    )
    def test_versions_are_compared_by_their_numbers(self, version, bounds, fits):
        assert installation._is_within(version, bounds) == fits

    def test_an_old_sqlite_is_a_problem(self, monkeypatch):
        monkeypatch.setattr(installation.sqlite3, "sqlite_version_info", (3, 26, 0))
        found = [each for each in installation.check_installation(()) if each.advice]
        assert [each.check for each in found] == ["versions"]

    def test_a_directory_of_sources_has_no_requirements(self, monkeypatch):
        def requires(name):
            raise installation.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(installation.metadata, "requires", requires)
        monkeypatch.setattr(installation.metadata, "version", requires)
        assert all(each.level == "ok" for each in installation.check_installation(()))


REQUIRED = [
    "click>=8.1.8",
    "sqlalchemy<3,>=2.0.36",
    "psycopg[binary]>=3.2; extra == 'postgres'",
    "s3fs>=2025.2; extra == 's3'",
]


class TestCommand:
    def test_a_store_that_is_well_exits_with_0(self, cas, place, tmp_path, monkeypatch):
        for name, value in credentials_of(place).items():
            monkeypatch.setenv(name, value)
        where = ("--store", place["root"]) if "root" in place else ()
        where = where or ("--index", place["index"], "--blobs", place["blobs"])
        code, out, _ = cas(*where, "doctor")
        assert code == 0
        assert {line.split("\t")[0] for line in out.splitlines()} == {"ok"}
        code, out, _ = cas(*where, "doctor", "--json")
        assert code == 0
        told = json.loads(out)
        assert told["is_well"]
        assert {each["level"] for each in told["findings"]} == {"ok"}

    def test_a_missing_store_exits_with_1_and_names_commands(self, cas, tmp_path):
        code, out, _ = cas("doctor")
        assert code == 1
        assert "problem\tstorage\t" in out
        assert "`cas init` or `cas track DIR`" in out
        assert os.listdir(tmp_path) == []
        code, out, _ = cas("doctor", "--json")
        assert (code, json.loads(out)["is_well"]) == (1, False)

    def test_people_see_whole_sentences_in_lines_that_fit(self, cas, tmp_path, monkeypatch):
        monkeypatch.setattr("index.cli.doctor.is_for_people", lambda: True)
        monkeypatch.setenv("COLUMNS", "60")
        code, out, _ = cas("doctor")
        assert code == 1
        lines = out.splitlines()
        assert lines[0].startswith("ok       versions  runcas ")
        assert lines[-1] == "1 problem, 0 warnings, 4 ok"
        assert "create one with `cas init`" in " ".join(out.split())
        long = [line for line in lines if len(line) > 60]
        assert all(line.split()[-1] in str(tmp_path / ".cas") + ";" for line in long), long

    def test_a_broken_configuration_is_a_finding(self, cas, tmp_path):
        (tmp_path / "cas.toml").write_text("index = \n")
        code, out, _ = cas("doctor")
        assert code == 1
        assert "problem\tconfiguration\t" in out
        assert out.startswith("ok\tversions\t")

    def test_advice_names_commands(self, cas, tmp_path):
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "a").touch()
        cas("track", "work")
        _, out, _ = cas("doctor")
        assert "\trun `cas backup` each night" in out
        assert "store." not in out

    def test_a_cache_of_the_configuration_is_examined(self, cas, place, tmp_path, monkeypatch):
        if "root" in place:
            place = {"index": f"sqlite:///{place['root']}/index.db", "blobs": place["root"]}
        for name, value in credentials_of(place).items():
            monkeypatch.setenv(name, value)
        lines = {"index": place["index"], "blobs": place["blobs"], "cache": "kept"}
        text = "".join(f"{name} = {json.dumps(str(value))}\n" for name, value in lines.items())
        (tmp_path / "cas.toml").write_text(text)
        assert f"{tmp_path}/kept: it will be created" in cas("doctor")[1]
        assert "will be created" not in cas("--no-cache", "doctor")[1]
