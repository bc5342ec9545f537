"""The expected content of a whole store, in dicts and lists, without code of the library."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


DROPPED = "dropped"
"""In place of the content of a version whose bytes were let go."""


@dataclass(eq=False, slots=True)
class Version:
    """The content of a path from one snapshot on, shared by the snapshots that have it."""

    content: bytes
    agent: str | None
    node: str | None
    seen: bool
    """Whether a scan has seen it on disk. Only then can a scan remove it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a run would have become by a transaction that was rolled back."""

    before: list
    """The run before it, as `told` returns it."""
    states: list
    inputs: list
    """The inputs of the run then."""
    at: datetime


def told(states):
    """Return the files of a run at each of its snapshots: path -> (bytes, agent)."""
    return [{path: (v.content, v.agent) for path, v in state.items()} for state in states]


def copied(states):
    """Return states with copies of the versions, shared as in the original."""
    copies = {id(v): replace(v) for state in states for v in state.values()}
    return [{path: copies[id(v)] for path, v in state.items()} for state in states]


class StoreModel:
    """Session and run -> states. The first is the empty one before all snapshots."""

    def __init__(self):
        self.runs = {}
        self.inputs = defaultdict(list)
        """Session and run -> what it has read: content, node, and the snapshot before."""
        self.changed_at = {}
        """Session and run -> when it was last recorded into or deleted."""
        self.attempts = defaultdict(list)
        """Session and run -> transactions that were rolled back; storage may have their records."""

    def now(self, key):
        """Return what a run holds; nothing if it does not exist."""
        return self.runs[key][-1] if key in self.runs else {}

    def record(self, key, changes, at, *, agent, node, seen, always=False, claim=False):
        """Apply `{path: bytes or None}` as one snapshot, if it changes anything.

        A claim names its files, so it also fills in who made a content that is there already.
        """
        exists = key in self.runs
        states = self.runs.get(key, [{}])
        current, new = states[-1], {}
        for path, content in changes.items():
            known = current.get(path)
            if content is None or known is None or known.content != content:
                new[path] = content
                continue
            known.seen |= seen
            if claim and known.agent is None:
                known.agent, known.node = agent, known.node or node
            elif node is not None and known.node == node and known.agent is None:
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

    def attempt(self, key, changes, at, *, agent, node):
        """Remember what a transaction that was rolled back would have made of a run."""
        before = told(self.runs.get(key, [{}]))
        other = StoreModel()
        if key in self.runs:
            other.runs[key] = copied(self.runs[key])
        other.record(key, changes, at, agent=agent, node=node, seen=True, always=True, claim=True)
        self.attempts[key].append(Attempt(before, other.runs[key], list(self.inputs[key]), at))

    def use(self, key, content, node, at):
        """Note that a node has read something, once."""
        known = self.inputs[key]
        if any(each[:2] == (content, node) for each in known):
            return
        self.runs.setdefault(key, [{}])
        known.append((content, node, len(self.runs[key]) - 1))
        self.changed_at[key] = at

    def fork(self, key, new, at, when):
        newest = len(self.runs[key]) - 1
        self.inputs[new] = [each for each in self.inputs[key] if each[2] < at or at == newest]
        states = copied(self.runs[key][: at + 1])
        lost = [path for path, version in states[at].items() if version.content == DROPPED]
        for path in lost:  # what would be current without bytes is left out
            version = states[at][path]
            for state in states:
                if state.get(path) is version:
                    del state[path]
        self.runs[new] = states
        self.changed_at[new] = when

    def rewind(self, key, at, when):
        """Go back to a snapshot; return whether that changes anything."""
        states = self.runs[key]
        current, wanted = states[-1], states[at]
        lost = {path for path, version in wanted.items() if version.content == DROPPED}
        state = {
            path: current[path]
            if path in current and current[path].content == version.content
            else replace(version)
            for path, version in wanted.items()
            if path not in lost
        }
        state |= {path: current[path] for path in lost if path in current}
        if state == current and not lost:
            return False
        states.append(state)
        self.changed_at[key] = when
        return True

    def drop(self, key, version, when):
        version.content = DROPPED
        self.changed_at[key] = when

    def delete(self, key, when):
        del self.runs[key]
        self.inputs.pop(key, None)
        self.changed_at[key] = when

    def contents(self, session=None):
        """Return all contents that some run, or some run of a session, refers to."""
        return {
            version.content
            for (where, _), states in self.runs.items()
            if session in (None, where)
            for state in states
            for version in state.values()
            if version.content != DROPPED
        }

    def take_over(self, key, found):
        """Accept a recovered run: as it was, or with the changes of a rolled back transaction.

        Storage cannot tell whether the last record of a run was committed. Of several records that
        continue the same one, recovery takes the newest, by the clocks of their writers.
        """
        if key in self.runs and found == told(self.runs[key]):
            return
        if key not in self.runs and found is None:
            return
        now = told(self.runs.get(key, [{}]))
        for attempt in self.attempts[key]:
            was_last = (attempt.before, attempt.inputs) == (now, self.inputs[key])
            is_newest = key not in self.changed_at or attempt.at >= self.changed_at[key]
            if found == told(attempt.states) and (was_last or is_newest):
                self.runs[key] = copied(attempt.states)
                self.inputs[key] = list(attempt.inputs)
                self.changed_at[key] = attempt.at
                return
        raise AssertionError(f"{key} is {found} after a recovery, and was {now}")
