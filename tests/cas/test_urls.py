from __future__ import annotations

import subprocess
import sys

import pytest

from cas import open_backend
from cas.backends.fsspec import ObjectStoreBackend
from cas.backends.local import LocalBackend
from cas.backends.memory import MemoryBackend


def test_paths_and_file_urls_are_local(tmp_path):
    for url in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        backend = open_backend(url)
        assert isinstance(backend, LocalBackend)
        assert backend.root == tmp_path


def test_a_file_url_is_unquoted():
    assert str(open_backend("file:///a%20b").root) == "/a b"


def test_memory_without_a_name_is_private():
    assert isinstance(open_backend("memory:"), MemoryBackend)
    assert isinstance(open_backend("memory://"), MemoryBackend)


def test_memory_with_a_name_is_shared_in_the_process():
    open_backend("memory://shared/here").create("cas.json", b"{}")
    assert open_backend("memory://shared/here").read("cas.json") == b"{}"


@pytest.mark.parametrize("url", ["s3://bucket/a/prefix", "s3://bucket", "S3://bucket/x/"])
def test_s3_is_an_object_store_that_nothing_is_asked_of_yet(url):
    backend = open_backend(url, storage_options={"endpoint_url": "http://127.0.0.1:9"})
    assert isinstance(backend, ObjectStoreBackend)
    assert backend.url == url.rstrip("/")
    backend.close()


def test_any_filesystem_of_fsspec_will_do():
    assert isinstance(open_backend("ftp://host/blobs"), ObjectStoreBackend)


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("s3://bucket/x", "pip install 'runcas[s3]'"),
        ("gs://bucket/x", "pip install 'gcsfs'"),
        ("az://container/x", "pip install 'adlfs'"),
        ("abfs://container/x", "pip install 'adlfs'"),
        ("sftp://host/x", "pip install 'paramiko'"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(url, command, monkeypatch):
    for module in ("s3fs", "gcsfs", "adlfs", "paramiko"):
        monkeypatch.setitem(sys.modules, module, None)
    import fsspec

    for protocol in list(fsspec.registry):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, protocol)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.sftp", raising=False)
    with pytest.raises(ValueError, match="a package that is not installed") as caught:
        open_backend(url)
    assert command in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["nothing://host/x", "simplecache::s3://bucket/x"])
def test_an_unknown_scheme_is_refused_by_name(url):
    with pytest.raises(ValueError, match=f"'{url.partition('://')[0]}'"):
        open_backend(url)


@pytest.mark.parametrize("url", ["s3://", "s3:///"])
def test_a_url_that_names_no_place_is_refused(url):
    with pytest.raises(ValueError, match="names no bucket"):
        open_backend(url)


@pytest.mark.parametrize(
    "url", ["sftp://me:hidden@host/x", "s3://KEY:hid/den@bucket/x", "s3://bucket/x?token=hidden"]
)
def test_a_url_with_credentials_is_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match="give these as storage_options") as caught:
        open_backend(url)
    assert "hid" not in str(caught.value)


@pytest.mark.parametrize("url", ["memory:", "somewhere", "file:///somewhere"])
def test_options_for_what_takes_none_are_refused(url):
    with pytest.raises(ValueError, match="storage_options are for remote storage"):
        open_backend(url, storage_options={"key": "x"})


def test_local_storage_does_not_import_fsspec(tmp_path):
    code = (
        "import sys; from index import ArtifactStore; import cas\n"
        "with ArtifactStore.open(sys.argv[1]) as store:\n"
        "    store.session('s').run('r').put('a', b'1')\n"
        "assert not {'fsspec', 's3fs', 'aiohttp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "store"], check=True)
