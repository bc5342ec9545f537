from __future__ import annotations

import pytest

from cas import open_backend
from cas.local import LocalBackend
from cas.memory import MemoryBackend


def test_paths_and_file_urls_are_local(tmp_path):
    for url in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        backend = open_backend(url)
        assert isinstance(backend, LocalBackend)
        assert backend.root == tmp_path


def test_a_file_url_is_unquoted():
    assert str(open_backend("file:///a%20b").root) == "/a b"


def test_memory_is_memory():
    assert isinstance(open_backend("memory:"), MemoryBackend)
    assert isinstance(open_backend("memory://"), MemoryBackend)


def test_an_unknown_scheme_is_refused_by_name():
    with pytest.raises(ValueError, match="'ftp'"):
        open_backend("ftp://host/x")
