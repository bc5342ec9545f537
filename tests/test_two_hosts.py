"""Two hosts share one store through the command: PostgreSQL, S3, and a home each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from postgres import PostgresServer
from sqlalchemy import make_url
from trees import read, write

CAS = Path(sys.executable).with_name("cas")
PASSWORD = "a password of the team"  # noqa: S105 - of a server on loopback
FILES = {
    "plan.md": b"the plan",
    "data/table.csv": b"1,2\n" * 1000,
    "data/raw.bin": os.urandom(300_000),
}


@pytest.fixture(scope="module")
def database():
    """A database whose owner must give a password."""
    server = PostgresServer()
    url = make_url(server.create_database())
    with psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE team LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(f"ALTER DATABASE {url.database} OWNER TO team")
    yield url.set(username="team")
    server.stop()


class Host:
    """A home and a project directory, without other variables that name places."""

    def __init__(self, root):
        self.home = root / "home"
        self.project = root / "project"
        for folder in (self.home, self.project):
            folder.mkdir(parents=True)
        self.environment = {"HOME": str(self.home), "PATH": os.environ["PATH"]}

    def start(self, *arguments):
        return subprocess.Popen(
            [CAS, *arguments],
            cwd=self.project,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cas(self, *arguments):
        """Run the command to its end; return its output."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, "")
        return out

    def json(self, *arguments):
        return json.loads(self.cas(*arguments, "--json"))


def secret_file(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)


@pytest.fixture
def place(database, s3):
    return database.render_as_string(), s3


@pytest.fixture
def with_files(place, tmp_path):
    """A host with its credentials in files."""
    index, s3 = place
    host = Host(tmp_path / "a")
    url = make_url(index)
    secret_file(host.home / ".pgpass", f"127.0.0.1:{url.port}:*:team:{PASSWORD}\n")
    lines = [f"{name} = {value}" for name, value in s3.credentials().items()]
    secret_file(host.home / ".aws" / "credentials", "\n".join(["[default]", *lines, ""]))
    secret_file(host.home / ".aws" / "config", f"[default]\nendpoint_url = {s3.endpoint}\n")
    return host


@pytest.fixture
def with_variables(place, tmp_path):
    """A host with its credentials in its environment."""
    _, s3 = place
    host = Host(tmp_path / "b")
    host.environment |= {"PGPASSWORD": PASSWORD, "AWS_ENDPOINT_URL": s3.endpoint}
    host.environment |= {name.upper(): value for name, value in s3.credentials().items()}
    return host


@pytest.mark.slow
def test_one_restores_what_the_other_tracked_and_both_track_at_once(
    place, with_files, with_variables
):
    one, two = with_files, with_variables
    index, s3 = place

    # Each host notes where the store is; the first creates it.
    ids = [
        host.json("init", "--index", index, "--blobs", s3.url)["store_id"] for host in (one, two)
    ]
    assert ids[0] == ids[1]
    for host in (one, two):
        noted = (host.project / "cas.toml").read_text()
        assert noted == f'index = "{index}"\nblobs = "{s3.url}"\n'
        assert not any(secret in noted for secret in (PASSWORD, *s3.credentials().values()))

    # One tracks, the other sees all of it.
    write(one.project / "work", FILES)
    one.cas("track", "work", "--run", "r", "--agent", "planner")
    write(one.project / "work", {"plan.md": b"a better plan"})
    one.cas("track", "work", "--run", "r", "--agent", "engineer")
    assert {v["path"] for v in two.json("ls", "-R", "--run", "r")} == set(FILES)
    versions = two.json("log", "plan.md", "--run", "r")
    assert [(v["version"], v["agent"]) for v in versions] == [(1, "planner"), (2, "engineer")]
    two.cas("restore", "--to", "restored", "--run", "r")
    assert read(two.project / "restored") == read(one.project / "work")
    two.cas("restore", "--to", "before", "--run", "r", "--at", "1")
    assert read(two.project / "before") == FILES
    changed = two.json("diff", "1", "2", "--run", "r")
    assert [change["path"] for change in changed["changed"]] == ["plan.md"]
    assert two.cas("cat", "plan.md@1", "--run", "r") == "the plan"

    # Both track the same run at once, each its own part of it.
    for turn in range(3):
        tracking = []
        for host, part in ((one, "one"), (two, "two")):
            files = {f"{part}/{n}": b"%d %d" % (turn, n) for n in range(20)}
            write(host.project / "parts", {**files, f"{part}/same": b"the same bytes %d" % turn})
            tracked = ("track", "parts", "--run", "both", "--scope", part, "--agent", part)
            tracking.append(host.start(*tracked))
        for process in tracking:
            _, err = process.communicate(timeout=120)
            assert (process.returncode, err) == (0, "")
    for host, other in ((one, two), (two, one)):
        host.cas("restore", "--to", "both", "--run", "both")
        expected = read(host.project / "parts") | read(other.project / "parts")
        assert read(host.project / "both") == expected
    assert [s["snapshot"] for s in one.json("snapshots", "--run", "both")] == [1, 2, 3, 4, 5, 6]
    for part in ("one", "two"):
        versions = one.json("log", f"{part}/7", "--run", "both")
        assert [(v["version"], v["agent"]) for v in versions] == [(n, part) for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (["PGPASSWORD"], "no password supplied"),
        (["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "no credentials were found"),
    ],
    ids=["index", "blobs"],
)
def test_a_host_without_credentials_gets_one_sentence(place, with_variables, missing, says):
    index, s3 = place
    for name in missing:
        del with_variables.environment[name]
    with_variables.environment["AWS_EC2_METADATA_DISABLED"] = "true"
    process = with_variables.start("init", "--index", index, "--blobs", s3.url)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err.count("\n")) == (5, "", 1)
    assert says in err
    assert not (with_variables.project / "cas.toml").exists()
