"""A filesystem that takes names for one if they differ in case or normalization only."""

from __future__ import annotations

import os
import unicodedata

__all__ = ["fold_names"]


def fold_names(monkeypatch):
    """Let the calls that take names relative to a directory find the name that is there."""
    real = {name: getattr(os, name) for name in (*_ONE, *_TWO)}
    for name in _ONE:
        monkeypatch.setattr(os, name, _of_one(real[name]))
    for name in _TWO:
        monkeypatch.setattr(os, name, _of_two(real[name]))


_ONE = ("open", "stat", "mkdir", "unlink", "rmdir", "readlink")
_TWO = ("rename", "link")


def _of_one(call):
    def folding(path, *arguments, dir_fd=None, **options):
        return call(_existing(path, dir_fd), *arguments, dir_fd=dir_fd, **options)

    return folding


def _of_two(call):
    def folding(old, new, *, src_dir_fd=None, dst_dir_fd=None, **options):
        old, new = _existing(old, src_dir_fd), _existing(new, dst_dir_fd)
        return call(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **options)

    return folding


def _existing(name, directory):
    if directory is None or "/" in os.fspath(name):
        return name
    return next((n for n in os.listdir(directory) if _folded(n) == _folded(name)), name)


def _folded(name):
    return unicodedata.normalize("NFC", name).casefold()
