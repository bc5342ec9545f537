"""What a whole store should hold, in dicts and lists: no code of the library is in it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(eq=False, slots=True)
class Version:
    """What a path holds from one snapshot on. Shared by the snapshots of a run that show it."""

    content: bytes
    agent: str | None
    node: str | None
    seen: bool
    """Whether a scan has seen it on disk: only then can a scan find it removed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a transaction that was rolled back would have made of a run."""

    before: list
    """As `told` has the run then."""
    states: list
    at: datetime


def told(states):
    """Return what a run tells of each of its snapshots: path -> (bytes, agent)."""
    return [{path: (v.content, v.agent) for path, v in state.items()} for state in states]


def copied(states):
    """Return states whose versions are others than the original's, and shared as they were."""
    copies = {id(v): replace(v) for state in states for v in state.values()}
    return [{path: copies[id(v)] for path, v in state.items()} for state in states]


class StoreModel:
    """Session and run -> states, of which the first is the empty one before all snapshots."""

    def __init__(self):
        self.runs = {}
        self.changed_at = {}
        """Session and run -> when something was last recorded in it, or it was deleted."""
        self.attempts = defaultdict(list)
        """Session and run -> what was rolled back; its records may lie in storage still."""

    def now(self, key):
        """Return what a run holds; nothing if it isn't there."""
        return self.runs[key][-1] if key in self.runs else {}

    def record(self, key, changes, at, *, agent, node, seen, always=False):
        """Apply `{path: bytes or None}` as one snapshot, if it is one."""
        exists = key in self.runs
        states = self.runs.get(key, [{}])
        current, new = states[-1], {}
        for path, content in changes.items():
            known = current.get(path)
            if content is None or known is None or known.content != content:
                new[path] = content
                continue
            known.seen |= seen
            if node is not None and known.node == node and known.agent is None:
                known.agent = agent
        if new or (always and not exists):
            state = {path: v for path, v in current.items() if path not in new}
            for path, content in new.items():
                if content is not None:
                    state[path] = Version(content, agent, node, seen)
            states.append(state)
        if new or exists or always:
            self.runs[key] = states
            self.changed_at[key] = at

    def attempt(self, key, changes, at, *, agent, node, seen=True):
        """Note what a transaction would have made of a run, had it not been rolled back."""
        before = told(self.runs.get(key, [{}]))
        other = StoreModel()
        if key in self.runs:
            other.runs[key] = copied(self.runs[key])
        other.record(key, changes, at, agent=agent, node=node, seen=seen, always=True)
        self.attempts[key].append(Attempt(before, other.runs[key], at))

    def fork(self, key, new, at, when):
        self.runs[new] = copied(self.runs[key][: at + 1])
        self.changed_at[new] = when

    def rewind(self, key, at, when):
        """Return whether that changes anything."""
        states = self.runs[key]
        current, wanted = states[-1], states[at]
        state = {
            path: current[path]
            if path in current and current[path].content == version.content
            else replace(version)
            for path, version in wanted.items()
        }
        if state == current:
            return False
        states.append(state)
        self.changed_at[key] = when
        return True

    def delete(self, key, when):
        del self.runs[key]
        self.changed_at[key] = when

    def contents(self, session=None):
        """Return every bytes that some run refers to, or some run of a session."""
        return {
            version.content
            for (where, _), states in self.runs.items()
            if session in (None, where)
            for state in states
            for version in state.values()
        }

    def take_over(self, key, found):
        """Accept what a recovery made of a run: what it was, or with what was rolled back.

        Storage can't tell the last record of a run that arrived from one that did not. Of several
        that go on from the same one it takes the newest, by the clocks of those who wrote them.
        """
        if key in self.runs and found == told(self.runs[key]):
            return
        if key not in self.runs and found is None:
            return
        now = told(self.runs.get(key, [{}]))
        for attempt in self.attempts[key]:
            was_last = attempt.before == now
            is_newest = key not in self.changed_at or attempt.at >= self.changed_at[key]
            if found == told(attempt.states) and (was_last or is_newest):
                self.runs[key] = copied(attempt.states)
                self.changed_at[key] = attempt.at
                return
        raise AssertionError(f"{key} is {found} after a recovery, and was {now}")
