"""Errors for what has to stay, and for what there is no room for."""

from __future__ import annotations

from index.errors.storage import ArtifactIndexError

__all__ = [
    "HeldError",
    "QuotaExceededError",
    "TaggedRunError",
    "VersionKeptError",
]


class TaggedRunError(ArtifactIndexError):
    """A run that was to be deleted has tags in its session."""

    run: str
    tags: tuple[str, ...]

    def __str__(self) -> str:
        few = ", ".join(map(repr, self.tags[:5])) + (", …" if len(self.tags) > 5 else "")
        tags = "tag" if len(self.tags) == 1 else "tags"
        return (
            f"run {self.run!r} is kept by the {tags} {few}; move or remove it with"
            " `session.untag_run(…)`, or delete with `force=True`"
        )


class HeldError(ArtifactIndexError):
    """A deletion of what is held."""

    session: str
    run: str | None
    """None if the whole session is held."""
    reason: str
    since: str

    def __str__(self) -> str:
        what = f"session {self.session!r}" if self.run is None else f"run {self.run!r}"
        return (
            f"{what} is held since {self.since}: {self.reason}; nothing of it can be deleted before"
            " `release_hold(REASON)`"
        )


class VersionKeptError(ArtifactIndexError):
    """A version whose bytes can't be dropped."""

    path: str
    version: int
    reason: str

    def __str__(self) -> str:
        return f"version {self.version} of {self.path!r} can't be dropped: {self.reason}"


class QuotaExceededError(ArtifactIndexError):
    """What was to be recorded takes more bytes than the session may hold. Nothing was recorded."""

    session: str
    used: int
    quota: int

    def __str__(self) -> str:
        return (
            f"session {self.session!r} holds {self.used:,} of {self.quota:,} bytes, and its quota "
            "allows no more; delete runs, drop past versions with `session.plan_retention(…)`, or "
            "raise the quota"
        )
