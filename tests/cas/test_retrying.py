from __future__ import annotations

import logging

import pytest

from cas.backends.retrying import Retrying
from cas.errors import BackendError, TransientBackendError
from cas.waiting import WAITS


class Clock:
    """A clock that only advances during sleeps."""

    def __init__(self):
        self.now = 0.0
        self.waits = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.waits.append(seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def retrying(clock):
    return Retrying(deadline=60, first_wait=0.1, longest_wait=2, clock=clock, sleep=clock.sleep)


def failing(times, error):
    left = [times]

    def attempt():
        if left[0]:
            left[0] -= 1
            raise error
        return "done"

    return attempt


def test_what_fails_for_a_while_succeeds(retrying):
    assert retrying.call(failing(5, TransientBackendError("place", "reset"))) == "done"


def test_what_cannot_succeed_is_tried_once(retrying, clock):
    with pytest.raises(BackendError, match="refused"):
        retrying.call(failing(1, BackendError("place", "refused")))
    assert clock.waits == []


def test_waits_are_drawn_from_zero_to_a_limit_that_doubles(retrying, clock):
    for _ in range(300):
        retrying.call(failing(8, TransientBackendError("place", "reset")))
    by_attempt = [clock.waits[number::8] for number in range(8)]
    limits = [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2]
    for waits, limit in zip(by_attempt, limits, strict=True):
        assert max(waits) <= limit
        assert max(waits) > 0.8 * limit
        assert min(waits) < 0.2 * limit


def test_no_attempt_begins_after_the_deadline_and_the_error_tells_how_often(retrying, clock):
    cause = ConnectionResetError()

    def attempt():
        raise TransientBackendError("place", "reset") from cause

    with pytest.raises(TransientBackendError) as caught:
        retrying.call(attempt)
    assert clock.now < 60
    assert f"tried {len(clock.waits) + 1} times" in str(caught.value)
    assert "repeat the call later" in str(caught.value)
    assert caught.value.__cause__ is cause


def test_each_wait_is_logged_with_its_length(retrying, clock, caplog):
    with caplog.at_level(logging.INFO, logger=WAITS):
        retrying.call(failing(2, TransientBackendError("place", "reset")))
    assert [record.getMessage() for record in caplog.records] == ["waiting for place: reset"] * 2
    assert [(record.waited, record.pause) for record in caplog.records] == [
        (0, clock.waits[0]),
        (clock.waits[0], clock.waits[1]),
    ]
