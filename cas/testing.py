"""Tests of the backend contract. Subclass them to test your own backend.

It needs pytest, which the package does not install. Nothing else in `cas` imports this module.
"""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING

import pytest

from cas.errors import BackendError, ObjectNotFoundError

if TYPE_CHECKING:
    from cas.backend import Backend
    from cas.digest import Buffer

__all__ = ["BackendConformance"]


class BackendConformance:
    """Tests of the contract of `cas.backend`, to be inherited by a test class.

    A subclass overrides three methods: the fixture `backend`, `stored_names` and `stored_bytes`.
    pytest then collects every test here for it. For detailed messages of failed assertions, call
    ``pytest.register_assert_rewrite("cas.testing")`` in ``conftest.py``.

    Examples
    --------
    ::

        class TestMyBackend(BackendConformance):
            @pytest.fixture
            def backend(self, tmp_path):
                self.root = tmp_path
                return MyBackend(tmp_path)

            def stored_names(self, backend: Backend) -> set[str]:
                return {path.name for path in self.root.iterdir()}

            def stored_bytes(self, backend: Backend, name: str) -> bytes:
                return (self.root / name).read_bytes()
    """

    # Not an ABC: pytest skips abstract classes in silence, so a forgotten hook would pass.

    @pytest.fixture
    def backend(self) -> Backend:
        """Return a new, empty backend."""
        raise NotImplementedError

    def stored_names(self, backend: Backend) -> set[str]:
        """Return the names of all objects, found without the backend."""
        raise NotImplementedError

    def stored_bytes(self, backend: Backend, name: str) -> bytes:
        """Return an object's bytes, read without the backend."""
        raise NotImplementedError

    def publish(self, backend: Backend, name: str, *pieces: Buffer) -> None:
        """Stage the pieces and publish them as one object."""
        with backend.stage() as staged:
            for piece in pieces:
                staged.write(piece)
            staged.publish(name)

    def test_a_published_object_has_the_bytes_that_were_written(self, backend: Backend) -> None:
        self.publish(backend, "packs/ab/one.pack", b"he", bytearray(b"ll"), memoryview(b"o"))
        assert self.stored_bytes(backend, "packs/ab/one.pack") == b"hello"
        assert backend.read("packs/ab/one.pack") == b"hello"

    def test_nothing_is_visible_before_publish(self, backend: Backend) -> None:
        with backend.stage() as staged:
            staged.write(b"hello")
            assert self.stored_names(backend) == set()
            assert list(backend.iter_objects("packs/")) == []

    def test_an_object_that_is_not_published_leaves_no_trace(self, backend: Backend) -> None:
        with backend.stage() as staged:
            staged.write(b"hello")
        assert self.stored_names(backend) == set()

    def test_an_error_while_staging_leaves_no_trace(self, backend: Backend) -> None:
        with pytest.raises(RuntimeError, match="mine"), backend.stage() as staged:
            staged.write(b"hello")
            raise RuntimeError("mine")
        assert self.stored_names(backend) == set()

    def test_discard_is_idempotent_and_harmless_after_publish(self, backend: Backend) -> None:
        staged = backend.stage()
        staged.write(b"x")
        staged.publish("packs/one")
        staged.discard()
        staged.discard()
        assert backend.read("packs/one") == b"x"

    def test_an_empty_object_is_an_object(self, backend: Backend) -> None:
        self.publish(backend, "packs/empty")
        assert backend.read("packs/empty") == b""
        assert backend.size("packs/empty") == 0

    def test_publishing_a_name_again_keeps_a_whole_object(self, backend: Backend) -> None:
        self.publish(backend, "packs/one", b"same")
        self.publish(backend, "packs/one", b"same")
        assert backend.read("packs/one") == b"same"

    @pytest.mark.parametrize(
        ("start", "size", "expected"),
        [
            (0, None, b"0123456789"),
            (3, None, b"3456789"),
            (0, 4, b"0123"),
            (3, 4, b"3456"),
            (8, 4, b"89"),
            (10, 4, b""),
            (12, 4, b""),
            (0, 0, b""),
        ],
    )
    def test_a_range_is_read_as_far_as_the_object_goes(
        self, backend: Backend, start: int, size: int | None, expected: bytes
    ) -> None:
        self.publish(backend, "packs/one", b"0123456789")
        assert backend.read("packs/one", start, size) == expected

    def test_reading_what_is_not_there_says_so(self, backend: Backend) -> None:
        with pytest.raises(ObjectNotFoundError):
            backend.read("packs/none")
        with pytest.raises(ObjectNotFoundError):
            backend.size("packs/none")

    def test_size_is_the_number_of_bytes(self, backend: Backend) -> None:
        self.publish(backend, "packs/one", b"x" * 70_000)
        assert backend.size("packs/one") == 70_000

    def test_create_publishes_only_what_is_absent(self, backend: Backend) -> None:
        assert backend.create("cas.json", b"first") is True
        assert backend.create("cas.json", b"second") is False
        assert self.stored_bytes(backend, "cas.json") == b"first"

    def test_of_many_creators_exactly_one_wins(self, backend: Backend) -> None:
        start = threading.Barrier(8)
        outcomes: dict[int, bool] = {}

        def create(number: int) -> None:
            start.wait()
            outcomes[number] = backend.create("cas.json", b"%d" % number)

        threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [number for number, won in outcomes.items() if won]
        assert len(winners) == 1
        assert backend.read("cas.json") == b"%d" % winners[0]

    def test_listing_yields_what_has_the_prefix_with_its_size(self, backend: Backend) -> None:
        self.publish(backend, "packs/ab/one", b"1")
        self.publish(backend, "packs/cd/two", b"22")
        backend.create("cas.json", b"{}")
        found = {(info.name, info.size) for info in backend.iter_objects("packs/")}
        assert found == {("packs/ab/one", 1), ("packs/cd/two", 2)}

    def test_listing_nothing_is_empty(self, backend: Backend) -> None:
        assert list(backend.iter_objects("packs/")) == []

    def test_a_deleted_object_is_gone_and_deleting_again_is_no_error(
        self, backend: Backend
    ) -> None:
        self.publish(backend, "packs/one", b"1")
        backend.delete("packs/one")
        backend.delete("packs/one")
        assert self.stored_names(backend) == set()

    @pytest.mark.parametrize(
        "name", ["../up", "/abs", "a//b", "", "a/../b", "A", ".hidden", "a/.b", "a\0b", "x" * 201]
    )
    def test_names_that_could_lead_elsewhere_are_refused(self, backend: Backend, name: str) -> None:
        for attempt in (
            lambda: backend.read(name),
            lambda: backend.create(name, b""),
            lambda: backend.delete(name),
            lambda: self.publish(backend, name, b""),
        ):
            with pytest.raises(ValueError, match="is not an object name"):
                attempt()

    def test_many_threads_publish_and_read_at_once(self, backend: Backend) -> None:
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for turn in range(10):
                    name = f"packs/{number:02d}/{turn}"
                    self.publish(backend, name, name.encode() * 100)
                    assert backend.read(name) == name.encode() * 100
            except BaseException as error:  # noqa: BLE001 - shown below
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(self.stored_names(backend)) == 40

    def test_errors_survive_pickling(self, backend: Backend) -> None:
        with pytest.raises(BackendError) as caught:
            backend.read("packs/none")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

    def test_close_is_idempotent(self, backend: Backend) -> None:
        backend.close()
        backend.close()
