"""Programs and libraries that keep a directory and give it back, each with the same four calls.

A program is used if it is on PATH. disk-objectstore and hashfs are libraries: `BENCHMARK_PEERS`
names a Python that has them, if it is not this one. DVC, too, wants an environment of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from machine import output_of
from measure import flush

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LIBRARIES: Final = Path(__file__).with_name("library_peers.py")


def bytes_below(root: Path) -> int:
    """Return the bytes of all files below `root`."""
    return sum(path.lstat().st_size for path in files_below(root))


def files_below(root: Path) -> list[Path]:
    """Return all files below `root`."""
    return [Path(folder, name) for folder, _, names in os.walk(root) for name in names]


@cache
def version_of(program: str, ask: str = "--version") -> str:
    """Return the version that a program tells; nothing if it is not on PATH."""
    if shutil.which(program) is None:
        return ""
    found = re.search(r"(?<!\w)\d+(\.\d+)*", output_of([program, ask]))
    return found[0] if found else "of no version"


def described(versions: Mapping[str, str]) -> dict[str, str]:
    """Return what a page says of programs: those that are here, and those that are not."""
    here = [f"{name} {version}" for name, version in versions.items() if version]
    absent = [name for name, version in versions.items() if not version]
    return {
        "compared with": ", ".join(here) or "nothing",
        "not installed": ", ".join(absent) or "nothing",
    }


class Peer(ABC):
    """A way to keep a directory. What `create` does is not timed."""

    name: ClassVar[str]
    does_rescan: ClassVar[bool] = True
    """Whether it compares with what it holds; the others write all of it again."""
    keeps_versions: ClassVar[bool] = False
    does_sync: ClassVar[bool] = False
    """Whether it is durable by itself; the others are followed by ``sync -f``."""

    def __init__(self, work: Path) -> None:
        """Set where it may keep a cache."""
        self._environment: Final = {**os.environ, "XDG_CACHE_HOME": str(work / "cache")}

    @classmethod
    @abstractmethod
    def version(cls) -> str:
        """Return the version; nothing if it is not installed."""

    def create(self, store: Path, source: Path) -> None:  # noqa: B027 - for most there is nothing
        """Make an empty store in an empty directory."""

    @abstractmethod
    def add(self, store: Path, source: Path) -> None:
        """Keep the present state of a directory."""

    @abstractmethod
    def restore(self, store: Path, destination: Path) -> None:
        """Write the latest state to an empty directory."""

    def add_durably(self, store: Path, source: Path) -> None:
        """Keep the present state so that it outlives a power cut."""
        self.add(store, source)
        if not self.does_sync:
            flush(store)

    def data(self, store: Path) -> Path:
        """Return where its bytes are."""
        return store

    def count(self, store: Path) -> int:
        """Return the rows or objects by which it finds what it holds."""
        return len(files_below(self.data(store)))

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Run a command and return what it prints."""
        arguments = list(map(str, command))
        done = subprocess.run(
            arguments, capture_output=True, text=True, check=False, env=self._environment, cwd=cwd
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)} failed: {done.stderr[-2000:]}")
        return done.stdout


class Copy(Peer):
    """``cp -r``; its restore is not synced either."""

    name, does_rescan = "cp", False

    @classmethod
    def version(cls) -> str:
        return version_of("cp")

    def add(self, store: Path, source: Path) -> None:
        self.run("cp", "-r", source, store / "copy")

    def restore(self, store: Path, destination: Path) -> None:
        self.run("cp", "-r", store / "copy", destination / "copy")


class Tar(Peer):
    """One archive, not compressed."""

    name, does_rescan = "tar", False

    @classmethod
    def version(cls) -> str:
        return version_of("tar")

    def add(self, store: Path, source: Path) -> None:
        self.run("tar", "-cf", store / "all.tar", "-C", source, ".")

    def restore(self, store: Path, destination: Path) -> None:
        self.run("tar", "-xf", store / "all.tar", "-C", destination)


class Rsync(Peer):
    """A mirror."""

    name = "rsync"

    @classmethod
    def version(cls) -> str:
        return version_of("rsync")

    def add(self, store: Path, source: Path) -> None:
        self.run("rsync", "-a", f"{source}/", f"{store}/copy/")

    def restore(self, store: Path, destination: Path) -> None:
        self.run("rsync", "-a", f"{store}/copy/", f"{destination}/")


class Restic(Peer):
    """A repository without a secret; compressed as restic's version does by itself."""

    name, keeps_versions, does_sync = "restic", True, True

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self._environment["RESTIC_PASSWORD"] = "benchmark"  # noqa: S105

    @classmethod
    def version(cls) -> str:
        return version_of("restic", "version")

    def create(self, store: Path, source: Path) -> None:
        self._restic(store, "init")

    def add(self, store: Path, source: Path) -> None:
        self._restic(store, "backup", source.name, cwd=source.parent)

    def restore(self, store: Path, destination: Path) -> None:
        self._restic(store, "restore", "latest", "--target", str(destination))

    def open(self, store: Path) -> None:
        """Do nothing but open the repository, which every other command begins with."""
        self._restic(store, "cat", "config")

    def count(self, store: Path) -> int:
        return len(self._restic(store, "list", "blobs").splitlines())

    def _restic(self, store: Path, *arguments: str, cwd: Path | None = None) -> str:
        return self.run("restic", "--quiet", "--repo", store, *arguments, cwd=cwd)


class Borg(Peer):
    """A repository without encryption."""

    name, keeps_versions, does_sync = "borg", True, True

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self._environment["BORG_BASE_DIR"] = str(work / "borg-base")

    @classmethod
    def version(cls) -> str:
        return version_of("borg")

    def create(self, store: Path, source: Path) -> None:
        self.run("borg", "init", "--encryption", "none", store)

    def add(self, store: Path, source: Path) -> None:
        self.run("borg", "create", f"{store}::{{now:%s.%f}}", source.name, cwd=source.parent)

    def restore(self, store: Path, destination: Path) -> None:
        latest = self.run("borg", "list", "--short", "--last", "1", store).strip()
        self.run("borg", "extract", f"{store}::{latest}", cwd=destination)

    def count(self, store: Path) -> int:
        info = json.loads(self.run("borg", "info", "--json", store))
        return int(info["cache"]["stats"]["total_unique_chunks"])


class Git(Peer):
    """A commit of everything, without collection in the background."""

    name, keeps_versions = "git", True

    @classmethod
    def version(cls) -> str:
        return version_of("git")

    def create(self, store: Path, source: Path) -> None:
        self.run("git", "init", "--quiet", "--bare", store / "git")

    def add(self, store: Path, source: Path) -> None:
        self._git(store, source, "add", "--all", "--force", ".")
        self._git(store, source, "commit", "--quiet", "--allow-empty", "--message", "state")

    def restore(self, store: Path, destination: Path) -> None:
        self._git(store, destination, "checkout", "--force", "HEAD", "--", ".")

    def _git(self, store: Path, tree: Path, *arguments: str) -> None:
        where = (f"--git-dir={store / 'git'}", f"--work-tree={tree}")
        who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
        self.run("git", *where, *who, "-c", "gc.auto=0", *arguments, cwd=tree)


class Dvc(Peer):
    """``dvc add`` of a directory, which copies it into the cache."""

    name = "DVC"

    def __init__(self, work: Path) -> None:
        super().__init__(work)
        self._environment["DVC_NO_ANALYTICS"] = "1"

    @classmethod
    def version(cls) -> str:
        return version_of("dvc")

    def create(self, store: Path, source: Path) -> None:
        shutil.copytree(source, store / "data", symlinks=True)
        self.run("dvc", "init", "--no-scm", "--quiet", cwd=store)

    def data(self, store: Path) -> Path:
        return store / ".dvc" / "cache"

    def add(self, store: Path, source: Path) -> None:
        self.run("dvc", "add", "--quiet", "data", cwd=store)

    def restore(self, store: Path, destination: Path) -> None:
        (destination / ".dvc").mkdir()
        config = f"[core]\nno_scm = true\n[cache]\ndir = {store / '.dvc' / 'cache'}\n"
        (destination / ".dvc" / "config").write_text(config)
        shutil.copyfile(store / "data.dvc", destination / "data.dvc")
        self.run("dvc", "checkout", "--quiet", cwd=destination)


class Casync(Peer):
    """Chunks cut by content, each a compressed file."""

    name, keeps_versions = "casync", True

    @classmethod
    def version(cls) -> str:
        return version_of("casync")

    def add(self, store: Path, source: Path) -> None:
        self.run("casync", "make", f"--store={store / 'chunks'}", store / "tree.caidx", source)

    def restore(self, store: Path, destination: Path) -> None:
        where = destination / "tree"
        self.run("casync", "extract", f"--store={store / 'chunks'}", store / "tree.caidx", where)


class Squashfs(Peer):
    """A compressed image, on all cores: the native reference for packing."""

    name, does_rescan = "mksquashfs", False

    @classmethod
    def version(cls) -> str:
        return version_of("mksquashfs", "-version")

    def add(self, store: Path, source: Path) -> None:
        quiet = ("-quiet", "-no-progress", "-noappend")
        level = ("-comp", "zstd", "-Xcompression-level", "3")
        self.run("mksquashfs", source, store / "image", *level, *quiet)

    def restore(self, store: Path, destination: Path) -> None:
        where = destination / "tree"
        self.run("unsquashfs", "-quiet", "-no-progress", "-dest", where, store / "image")


class _Library(Peer):
    """A library, in a process of its own."""

    @classmethod
    def version(cls) -> str:
        ask = f"import importlib.metadata as m; print(m.version({cls.name!r}))"
        return output_of([_python(), "-c", ask])

    def create(self, store: Path, source: Path) -> None:
        self._call("create", store, source)

    def add(self, store: Path, source: Path) -> None:
        self._call("add", store, source)

    def restore(self, store: Path, destination: Path) -> None:
        self._call("restore", store, destination)

    def _call(self, work: str, store: Path, directory: Path) -> None:
        self.run(_python(), _LIBRARIES, self.name, work, store, directory)


class DiskObjectstore(_Library):
    """Objects straight into packs, as its own documentation has it for many files."""

    name, does_sync = "disk-objectstore", True


class Hashfs(_Library):
    """A file by its digest for each content."""

    name = "hashfs"


def _python() -> str:
    return os.environ.get("BENCHMARK_PEERS", sys.executable)


ALL: Final[Sequence[type[Peer]]] = (
    *(Copy, Tar, Rsync, Restic, Borg, Git, Dvc, DiskObjectstore, Hashfs, Casync, Squashfs),
)


class Peers:
    """The peers that are installed here."""

    def __init__(self, work: Path, only: Iterable[str] | None = None) -> None:
        """Look for all, or for `only` those of these names; they keep caches in `work`."""
        wanted = [peer for peer in ALL if only is None or peer.name in only]
        self.versions: Final = {peer.name: peer.version() for peer in wanted}
        self.here: Final = [peer(work) for peer in wanted if self.versions[peer.name]]

    @property
    def keeping_versions(self) -> list[Peer]:
        """Those that keep earlier states and share bytes among them."""
        return [peer for peer in self.here if peer.keeps_versions]
