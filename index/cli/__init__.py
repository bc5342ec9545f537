"""The `cas` command: the one part of the library that prints, exits and reads the environment."""

from index.cli.main import main

__all__ = ["main"]
