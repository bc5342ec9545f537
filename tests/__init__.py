"""A package, so that no package `tests` that something else has installed is taken for it."""
