"""A library that keeps files by digest, in a process of its own and an environment of its own.

    python library_peers.py (disk-objectstore | hashfs) (create | add | restore) STORE DIRECTORY

Needs the library and nothing else. A JSON file beside the store holds which path has which key.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path


def files_of(directory: Path) -> list[Path]:
    """Return the files of a directory, without links."""
    paths = sorted(directory.rglob("*"))
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def add_to_container(store: Path, directory: Path) -> dict[str, str]:
    """Write files into packs; return their keys."""
    from disk_objectstore import Container
    from disk_objectstore.utils import LazyOpener

    paths = files_of(directory)
    streams = [LazyOpener(path) for path in paths]
    with Container(store / "container") as container:
        keys = container.add_streamed_objects_to_pack(streams, open_streams=True, no_holes=True)
    return {str(p.relative_to(directory)): key for p, key in zip(paths, keys, strict=True)}


def restore_from_container(store: Path, directory: Path, keys: dict[str, str]) -> None:
    """Write all files."""
    from disk_objectstore import Container

    paths: dict[str, list[Path]] = {}
    for name, key in keys.items():
        paths.setdefault(key, []).append(directory / name)
    with (
        Container(store / "container") as container,
        container.get_objects_stream_and_meta(list(paths)) as found,
    ):
        for key, stream, _ in found:
            first, *others = paths[key]
            first.parent.mkdir(parents=True, exist_ok=True)
            with first.open("wb") as target:
                shutil.copyfileobj(stream, target)
            for other in others:
                other.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(first, other)


def add_to_hashfs(store: Path, directory: Path) -> dict[str, str]:
    """Copy files to where their digests say; return these."""
    from hashfs import HashFS

    kept = HashFS(str(store / "files"), depth=2, width=2, algorithm="sha256")
    return {str(p.relative_to(directory)): kept.put(str(p)).id for p in files_of(directory)}


def restore_from_hashfs(store: Path, directory: Path, keys: dict[str, str]) -> None:
    """Write all files."""
    from hashfs import HashFS

    kept = HashFS(str(store / "files"), depth=2, width=2, algorithm="sha256")
    for name, key in keys.items():
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with kept.open(key) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out)


def main() -> None:
    """Do what the arguments say."""
    library, work, *places = sys.argv[1:]
    store, directory = map(Path, places)
    is_container = library == "disk-objectstore"
    keys = store / "keys.json"
    if work == "create":
        if is_container:
            from disk_objectstore import Container

            with Container(store / "container") as container:
                container.init_container()
    elif work == "add":
        add = add_to_container if is_container else add_to_hashfs
        keys.write_text(json.dumps(add(store, directory)))
    else:
        restore = restore_from_container if is_container else restore_from_hashfs
        restore(store, directory, json.loads(keys.read_text()))


if __name__ == "__main__":
    main()
