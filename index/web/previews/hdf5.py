"""Names, shapes and types in HDF5. Data is not read, and links to other files are not followed."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from index.web.previews.content import UnreadableError
from index.web.previews.preview import Preview

if TYPE_CHECKING:
    from collections.abc import Iterator

    from index.web.previews.content import Content

__all__ = ["show"]

_OBJECTS: Final = 1_000
_DEPTH: Final = 50
_ATTRIBUTES: Final = 20
_LARGEST_ATTRIBUTE: Final = 1024
_CHARACTERS: Final = 200

_UNREADABLE: Final = (LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What h5py raises for an object that it can't read, such as one of a type that NumPy lacks."""


def show(content: Content, _head: bytes) -> Preview:
    """Return the objects of a file in the order of their paths."""
    try:
        import h5py
    except ImportError as error:
        raise UnreadableError("To show HDF5 here, install h5py.") from error
    # Virtual datasets name other files, which the library may open even for a shape.
    with content.open() as raw, _no_files(), h5py.File(raw, "r") as file:
        shower = _Shower(h5py)
        shower.walk(file, "", 0)
    is_cut = shower.is_cut or content.is_spent
    note = f"Only {len(shower.objects):,} objects are shown." if is_cut else None
    return Preview("hdf5", is_cut, note, {"objects": shower.objects})


@contextmanager
def _no_files() -> Iterator[None]:
    """Let no file be opened."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


class _Shower:
    """Collects what is in a file. What the library can't read is named, and passed over."""

    def __init__(self, h5py: Any) -> None:  # noqa: ANN401 - h5py has no types
        self.objects: list[dict[str, Any]] = []
        self.is_cut = False
        self._h5py = h5py
        self._paths: dict[int, str] = {}

    def walk(self, group: Any, path: str, depth: int) -> None:  # noqa: ANN401
        """Collect what is below a group. A group with several names is shown once."""
        self._paths[self._h5py.h5o.get_info(group.id).addr] = path
        for name in group:
            if len(self.objects) >= _OBJECTS:
                self.is_cut = True
                return
            # A name that is not UTF-8 is bytes.
            where = f"{path}/{name if isinstance(name, str) else name.decode('latin-1')}"
            try:
                self._show(group, name, where, depth)
            except _UNREADABLE:
                self.objects.append(_object(where, "unreadable"))

    def _show(self, group: Any, name: Any, where: str, depth: int) -> None:  # noqa: ANN401
        h5py = self._h5py
        link = group.get(name, getlink=True) if isinstance(name, str) else None
        if isinstance(link, h5py.ExternalLink):
            kind = f"link to {link.filename}:{link.path}, not followed"
            self.objects.append(_object(where, kind))
            return
        if isinstance(link, h5py.SoftLink):
            self.objects.append(_object(where, f"link to {link.path}"))
            return
        if link is None:
            raise UnicodeError
        found = group[name]
        if not isinstance(found, h5py.Group):
            self.objects.append(self._described(found, where))
            return
        known = self._paths.get(h5py.h5o.get_info(found.id).addr)
        if known is not None:
            self.objects.append(_object(where, f"the same group as {known or '/'}"))
            return
        self.objects.append(self._described(found, where))
        if depth < _DEPTH:
            self.walk(found, where, depth + 1)
        else:
            self.is_cut = self.is_cut or len(found) > 0

    def _described(self, found: Any, path: str) -> dict[str, Any]:  # noqa: ANN401
        result = _object(path, type(found).__name__.lower()) | {"attrs": self._attributes(found)}
        if isinstance(found, self._h5py.Dataset):
            shape = found.shape
            result["shape"] = None if shape is None else [*map(int, shape)]
            try:
                result["dtype"] = str(found.dtype)[:_CHARACTERS]
            except _UNREADABLE:
                result["dtype"] = "unreadable"
        return result

    def _attributes(self, found: Any) -> list[dict[str, str]]:  # noqa: ANN401
        result = []
        for name in islice(found.attrs, _ATTRIBUTES):
            try:
                value = self._value(found, name)
            except _UNREADABLE:
                value = "(unreadable)"
            result.append({"name": str(name), "value": value[:_CHARACTERS]})
        return result

    def _value(self, found: Any, name: str) -> str:  # noqa: ANN401
        attribute = self._h5py.h5a.open(found.id, name.encode("utf-8", "surrogateescape"))
        if attribute.get_space().get_simple_extent_type() == self._h5py.h5s.NULL:
            return "(empty)"
        if attribute.get_storage_size() > _LARGEST_ATTRIBUTE:
            return "(large)"
        return str(found.attrs[name])


def _object(path: str, kind: str) -> dict[str, Any]:
    return {"path": path, "kind": kind[:500], "shape": None, "dtype": None, "attrs": []}
