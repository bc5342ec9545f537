"""A real S3 service: CAS_TEST_S3, or SeaweedFS on loopback for the session.

CAS_TEST_S3 is the URL of an endpoint; credentials come from the usual places of AWS's tools. They
must be allowed to create a bucket. A PUT to a missing bucket must fail, which it does not for an
administrator of SeaweedFS. Unknown credentials must be refused.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import botocore.config
import botocore.session

# A client parses a megabyte of JSON that describes the service, and the tests make a thousand.
botocore.session.create_loader = cache(botocore.session.create_loader)

START_S = 60
"""Seconds that SeaweedFS may take to start; it takes about 4."""


@dataclass(frozen=True)
class Place:
    """A bucket of a service, and a prefix in it that nobody else uses."""

    endpoint: str
    bucket: str
    prefix: str
    key: str | None = None
    secret: str | None = None

    @property
    def url(self):
        return f"s3://{self.bucket}/{self.prefix}"

    def options(self, **extra):
        """Return storage options for this place; `extra` overrides them."""
        given = {"key": self.key, "secret": self.secret, "endpoint_url": self.endpoint, **extra}
        return {name: value for name, value in given.items() if value is not None}

    def credentials(self):
        """Return the given value, or the one that AWS's tools find under its usual names."""
        found = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret}
        if self.key is None:
            there = botocore.session.Session().get_credentials().get_frozen_credentials()
            found = {
                "aws_access_key_id": there.access_key,
                "aws_secret_access_key": there.secret_key,
            }
            if there.token:
                found["aws_session_token"] = there.token
        return found

    def through(self, proxy):
        return replace(self, endpoint=proxy.url)

    def elsewhere(self):
        """A new prefix in the same bucket."""
        return replace(self, prefix=f"{self.prefix}-{uuid.uuid4().hex[:8]}")


class Inspector:
    """Reads and damages a place with botocore alone: without fsspec, s3fs or this library."""

    def __init__(self, place):
        self._place = place
        self._client = client(place.endpoint, place.key, place.secret)  # shared, so not closed here

    def names(self):
        start = len(self._place.prefix) + 1
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._place.bucket, Prefix=f"{self._place.prefix}/"
        )
        return {item["Key"][start:] for page in pages for item in page.get("Contents", ())}

    def read(self, name):
        answer = self._client.get_object(Bucket=self._place.bucket, Key=self._key(name))
        with answer["Body"] as body:
            return body.read()

    def write(self, name, data):
        self._client.put_object(Bucket=self._place.bucket, Key=self._key(name), Body=data)

    def remove(self, name):
        self._client.delete_object(Bucket=self._place.bucket, Key=self._key(name))

    def leftovers(self):
        """Return what is neither settings nor a pack, and uploads that were never finished."""
        strange = {
            n
            for n in self.names()
            if n not in ("cas.json", "index.json") and not n.startswith("packs/")
        }
        return sorted(strange) + self.unfinished_uploads()

    def unfinished_uploads(self):
        answer = self._client.list_multipart_uploads(
            Bucket=self._place.bucket, Prefix=self._place.prefix
        )
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def _key(self, name):
        return f"{self._place.prefix}/{name}"


@cache
def client(endpoint, key, secret):
    return botocore.session.Session().create_client(
        "s3",
        region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )


@contextmanager
def s3_place():
    """Yield a `Place` in a new bucket, of a service that runs during the block."""
    if endpoint := os.environ.get("CAS_TEST_S3"):
        with _bucket(endpoint) as bucket:
            yield Place(endpoint, bucket, "store")
        return
    owner, member = (("AKIA" + uuid.uuid4().hex[:12].upper(), uuid.uuid4().hex) for _ in range(2))
    with _seaweed(owner, member) as endpoint:
        bucket = "runcas"
        # In SeaweedFS an administrator's PUT creates its bucket; the tests are no administrator.
        client(endpoint, *owner).create_bucket(Bucket=bucket)
        yield Place(endpoint, bucket, "store", *member)


@contextmanager
def _bucket(endpoint):
    """Create a bucket with the usual credentials, and remove it afterwards."""
    user = client(endpoint, None, None)
    name = f"runcas-{uuid.uuid4().hex[:12]}"
    user.create_bucket(Bucket=name)
    try:
        yield name
    finally:
        for page in user.get_paginator("list_objects_v2").paginate(Bucket=name):
            for item in page.get("Contents", ()):
                user.delete_object(Bucket=name, Key=item["Key"])
        user.delete_bucket(Bucket=name)


@contextmanager
def _seaweed(owner, member):
    with tempfile.TemporaryDirectory(prefix="s3-", ignore_cleanup_errors=True) as folder:
        server, endpoint = _started(Path(folder), owner, member)
        try:
            yield endpoint
        finally:
            stop_server(server)


def _started(folder, owner, member):
    (folder / "s3.json").write_text(
        json.dumps(
            {
                "identities": [
                    _identity("owner", owner, ["Admin", "Read", "Write", "List"]),
                    _identity("member", member, ["Read", "Write", "List"]),
                ]
            }
        )
    )
    weed = shutil.which("weed", path=sysconfig.get_path("scripts")) or "weed"
    options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-s3"]
    config = f"-s3.config={folder / 's3.json'}"
    command = [weed, "-logtostderr=true", "server", f"-dir={folder}", *options, config]
    return answering_server(folder, command)


def answering_server(folder, command):
    """Start SeaweedFS by a command; return the process and its endpoint once it answers."""
    for _ in range(3):  # a port may be taken between the query and its use
        port, server = _start(folder, command)
        if _answers(f"http://127.0.0.1:{port}/", server):
            return server, f"http://127.0.0.1:{port}"
        stop_server(server)
    raise RuntimeError(f"SeaweedFS did not start:\n{(folder / 'log').read_text()[-2000:]}")


def _identity(name, credentials, actions):
    key, secret = credentials
    return {
        "name": name,
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": actions,
    }


def _start(folder, command):
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = dict(zip([*names, *(f"{name}.grpc" for name in names)], _free_ports(8), strict=True))
    sockets = folder / uuid.uuid4().hex[:8]
    sockets.mkdir()
    command = [
        *command,
        "-master.volumeSizeLimitMB=256",
        "-volume.max=50",
        "-volume.minFreeSpace=1MiB",
        f"-filer.localSocket={sockets}/f",
        f"-s3.localSocket={sockets}/s",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with (folder / "log").open("ab") as log:
        # The shell kills the server when its input ends, also if this process was killed.
        # It does not stop the server properly: that takes 25 s, and nothing is kept.
        script = '"$@" & pid=$!; read _; kill -9 $pid; wait $pid'
        server = subprocess.Popen(
            ["sh", "-c", script, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, "TMPDIR": str(folder)},  # for its sockets, which it does not remove
            start_new_session=True,  # Ctrl-C goes to the tests only
        )
    return ports["s3.port"], server


def stop_server(server):
    server.stdin.close()
    server.wait(timeout=START_S)


def _answers(url, server):
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except urllib.error.HTTPError as error:
            error.close()
            return True  # it refuses requests without credentials, so it runs
        except OSError:
            time.sleep(0.05)
        else:
            return True
    return False


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
