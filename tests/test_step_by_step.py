"""The recipe of docs/deploying.md, run with a real database and a real S3 service.

Directories and ports are replaced by some of the test, and the programs that change the machine by
ones that don't: `sudo` runs a command as the same user, with the home directory of the other one.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from postgres import PostgresServer, server_programs
from s3 import answering_server, stop_server
from shells import Shell

from index.cli.commands import cas as group

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "examples" / "deploy"
UNITS = DEPLOY / "systemd"
GUIDE = (ROOT / "docs" / "deploying.md").read_text()
RECIPE = GUIDE.partition("## Step by step")[2].partition("### The same in containers")[0]
BLOCKS = re.findall(r"```sh\n(.*?)```", RECIPE, re.DOTALL)
SCRIPTS = sysconfig.get_path("scripts")

SUDO = """#!/bin/bash
while [[ $1 == -* ]]; do
    if [[ $1 == *u ]]; then export PGUSER=$2 HOME={homes}/$2; shift; fi
    shift
done
exec "$@"
"""
INSTALL = """#!/bin/bash
kept=()
while (($#)); do
    if [[ $1 == -o ]]; then shift; else kept+=("$1"); fi
    shift
done
exec {install} "${{kept[@]}}"
"""
NOTED = """#!/bin/sh
echo "$(basename "$0")" "$@" >> {log}
"""
"""In place of a program that changes the machine."""


class Machine:
    """Directories and ports of the test in place of those of the recipe."""

    def __init__(self, folder, database_port):
        self.folder = folder
        self.sources = folder / "sources"
        shutil.copytree(DEPLOY, self.sources / "examples" / "deploy")
        for name in ("bin", "etc", "etc/systemd/system", "srv", "metrics", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for user in ("runcas", "seaweedfs", "alice", "bob", "postgres"):
            (folder / "home" / user).mkdir(parents=True)
        self._places = {
            "/opt/runcas/bin": SCRIPTS,
            "/var/lib/runcas-metrics": str(folder / "metrics"),
            "127.0.0.1:5432": f"127.0.0.1:{database_port}",
            **{f"/{name}/": f"{folder}/{name}/" for name in ("etc", "srv", "home")},
        }
        self.rewrite_files()
        log, homes = folder / "logs" / "noted", folder / "home"
        self._program("sudo", SUDO.format(homes=homes))
        self._program("install", INSTALL.format(install=shutil.which("install")))
        for name in ("systemctl", "chown"):
            self._program(name, NOTED.format(log=log))
        programs = (folder / "bin", SCRIPTS, server_programs(), *os.environ["PATH"].split(":"))
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "CAS_", "PG"))
        }
        self.environment = {
            **kept,
            "PATH": ":".join(map(str, programs)),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(database_port),
            "HOME": str(folder / "home" / "root"),
        }

    def set_storage(self, endpoint):
        """Replace the address of the S3 service by that of one that runs."""
        host = endpoint.removeprefix("http://")
        self._places["127.0.0.1:8333"] = host
        self._places["127.0.0.1/8333"] = host.replace(":", "/")
        self.rewrite_files()

    def rewrite_files(self):
        for path in (self.sources / "examples" / "deploy").rglob("*"):
            if path.is_file():
                path.write_text(self.here((DEPLOY / path.relative_to(
                    self.sources / "examples" / "deploy")).read_text()))  # fmt: skip

    def here(self, text):
        """Return text with the places of this machine."""
        return re.sub(
            "|".join(map(re.escape, self._places)), lambda found: self._places[found[0]], text
        )

    def unit(self, name):
        """Return the commands of an installed unit, and the section it is in."""
        return read_unit(self.folder / "etc" / "systemd" / "system" / name)["Service"]

    def run_as(self, user, command, folder):
        """Run a command as cron or systemd does for a user."""
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=folder,
            env={
                **self.environment,
                "HOME": str(self.folder / "home" / user),
                "PGUSER": user,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def _program(self, name, text):
        file = self.folder / "bin" / name
        file.write_text(text)
        file.chmod(0o755)


def read_unit(path):
    """Return the sections of a unit; a setting may be there more than once."""
    found = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.setdefault(name, []).append(value)
    return found


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A machine on which all steps of the recipe were done, and what each printed."""
    server = PostgresServer()
    made = Machine(tmp_path_factory.mktemp("machine"), server.port)
    shell = Shell(made.sources, made.environment)
    storage = None
    made.printed = []
    try:
        for block in BLOCKS[1:]:  # the first one installs packages
            if "enable --now seaweedfs.service" in block:
                (command,) = made.unit("seaweedfs.service")["ExecStart"]
                storage, endpoint = answering_server(made.folder / "logs", shlex.split(command))
                made.set_storage(endpoint)
            made.printed.append(shell.run(made.here(block)))
        yield made
    finally:
        shell.close()
        if storage is not None:
            stop_server(storage)
        server.stop()


@pytest.mark.slow
class TestMachine:
    def test_one_user_records_and_another_restores(self, machine):
        users = next(printed for printed in machine.printed if "snapshot 1" in printed)
        assert "1 added" in users
        assert "a plan\n" in users
        assert "permission denied for table" in users

    def test_credentials_are_for_their_user_alone(self, machine):
        for user in ("runcas", "alice", "bob"):
            home = machine.folder / "home" / user
            for name in (".pgpass", ".aws/credentials"):
                assert (home / name).stat().st_mode & 0o777 == 0o600

    def test_each_user_has_the_rights_that_the_page_says(self, machine):
        levels = {}
        for user in ("runcas", "alice", "bob"):
            done = machine.run_as(user, "cas doctor --json", machine.folder / "srv" / "runcas")
            assert done.returncode == 0, done.stdout
            found = json.loads(done.stdout)["findings"]
            levels[user] = {each["check"] for each in found if each["level"] != "ok"}
        assert levels == {
            "runcas": {"backup"},
            "alice": {"backup"},
            "bob": {"backup", "storage", "rights"},
        }

    def test_what_systemd_starts_works(self, machine):
        for name in ("runcas-nightly.service", "runcas-metrics.service"):
            unit = machine.unit(name)
            (folder,), (user,) = unit["WorkingDirectory"], unit["User"]
            for command in unit["ExecStart"]:
                done = machine.run_as(user, command, folder)
                assert done.returncode == 0, (command, done.stdout, done.stderr)
        numbers = (machine.folder / "metrics" / "runcas.prom").read_text()
        assert "\nruncas_runs 1\n" in numbers
        assert "\nruncas_backup_timestamp_seconds " in numbers
        assert numbers.endswith("# EOF\n")

    def test_what_cron_starts_works(self, machine):
        commands = [line.split(None, 5)[5] for line in cron_lines(machine.here(CRONTAB))]
        assert len(commands) == 3
        for command in commands:
            done = machine.run_as("runcas", command, machine.folder / "home" / "runcas")
            assert (done.returncode, done.stderr) == (0, ""), (command, done.stdout)

    def test_the_page_starts_the_units_that_there_are(self, machine):
        noted = (machine.folder / "logs" / "noted").read_text()
        for name in re.findall(r"[\w-]+\.(?:service|timer)", noted):
            assert (UNITS / name).is_file()


CRONTAB = (DEPLOY / "crontab").read_text()


def cron_lines(text):
    """Return the lines of a crontab that start something."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [line for line in lines if not re.match(r"\w+=", line)]


def test_the_lines_of_the_crontab_have_five_valid_fields():
    most = (59, 23, 31, 12, 7)
    for line in cron_lines(CRONTAB):
        *fields, command = line.split(None, 5)
        assert "%" not in command  # cron would end the command there
        for field, limit in zip(fields, most, strict=True):
            number = re.fullmatch(r"\*|\*/(\d+)|(\d+)", field)
            assert number, line
            assert int(number[1] or number[2] or 0) <= limit


def test_every_block_is_valid_for_the_shell():
    for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL):
        done = subprocess.run(["bash", "-n"], input=block, text=True, check=False)
        assert done.returncode == 0, block
    assert "'.[postgres,s3]'" in BLOCKS[0]
    assert len(BLOCKS) == 8


@pytest.mark.parametrize("path", sorted(UNITS.iterdir()), ids=lambda path: path.name)
def test_the_units_are_valid(path, tmp_path):
    unit = read_unit(path)
    assert unit["Unit"]["Description"]
    if path.suffix == ".timer":
        assert unit["Timer"]["OnCalendar"]
        assert (UNITS / f"{path.stem}.service").is_file()
        assert unit["Install"]["WantedBy"] == ["timers.target"]
    else:
        assert unit["Service"]["User"] in (["runcas"], ["seaweedfs"])
        assert all(command.startswith("/") for command in unit["Service"]["ExecStart"])
    if shutil.which("systemd-analyze"):
        for each in UNITS.iterdir():
            (tmp_path / each.name).write_text(each.read_text().replace("/opt/runcas/bin", SCRIPTS))
        done = subprocess.run(
            ["systemd-analyze", "verify", tmp_path / path.name],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


class TestContainers:
    COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    DOCKERFILE = (DEPLOY / "Dockerfile").read_text()

    def test_images_are_pinned_and_named_without_a_host(self):
        images = [each["image"] for each in self.COMPOSE["services"].values()]
        images += re.findall(r"^FROM (\S+)", self.DOCKERFILE, re.MULTILINE)
        for image in images:
            assert "." not in image.partition("/")[0].partition(":")[0], image
            assert ":" in image or image == "runcas"
            assert not image.endswith(":latest")

    def test_what_is_copied_is_in_the_context(self):
        kept = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
        copied = re.findall(r"^COPY (?!--from)(.+) \S+$", self.DOCKERFILE, re.MULTILINE)
        for name in " ".join(copied).split():
            assert (ROOT / name).exists()
            assert f"!{name}" in kept

    def test_the_extras_and_the_release_of_python_exist(self):
        project = (ROOT / "pyproject.toml").read_text()
        for extra in re.search(r"'\.\[(.*?)\]'", self.DOCKERFILE)[1].split(","):
            assert f"\n{extra} = [" in project
        for release in re.findall(r"python:(\S+)-slim", self.DOCKERFILE):
            assert int(release.split(".")[1]) >= 11

    def test_services_wait_for_services_that_there_are(self):
        services = self.COMPOSE["services"]
        for each in services.values():
            for name, how in each.get("depends_on", {}).items():
                needed = services[name]
                assert how["condition"] != "service_healthy" or "healthcheck" in needed
            for volume in each.get("volumes", []):
                name = volume.split(":")[0]
                assert name in self.COMPOSE["volumes"] or name.startswith("$")

    def test_the_service_reads_its_users(self):
        text = self.COMPOSE["configs"]["s3"]["content"]
        users = json.loads(re.sub(r"\$\{\w+:\?[^}]*\}", "secret", text))
        (user,) = users["identities"]
        environment = self.COMPOSE["services"]["cas"]["environment"]
        assert user["credentials"][0]["accessKey"] == environment["AWS_ACCESS_KEY_ID"]

    def test_the_commands_exist_with_their_options(self):
        texts = [CRONTAB, *(path.read_text() for path in UNITS.iterdir())]
        texts.append((DEPLOY / "compose.yaml").read_text())
        found = [
            call for text in texts for call in re.findall(r"\bcas ((?:-q )?[a-z][^&;>\n|]*)", text)
        ]
        calls = [
            shlex.split(call)
            for call in found
            if call.split()[-1] in group.commands or "--" in call
        ]
        assert len(calls) >= 8
        for call in calls:
            name, *rest = [word for word in call if word != "-q"]
            command = group.get_command(None, name)
            assert command is not None, call
            assert command.make_context(name, rest, resilient_parsing=True)
