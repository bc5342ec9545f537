"""Classification of files by directory, name and extension.

It gives the kind of a file only. Nothing guesses from a path who made the file. The kinds and
priorities follow the specification that this library implements (stage 4, "File Tracking
Overhaul", task 4.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DEFAULT_CLASSIFIER",
    "KINDS",
    "PRIORITIES",
    "Classifier",
    "RuleClassifier",
    "says_final",
]

PRIORITIES: Final = ("primary", "secondary", "internal")

KINDS: Final = (
    "report", "plot", "data", "code", "plan", "chat", "cost", "context", "log", "other",
)  # fmt: skip
"""The file types of the default rules, in display order."""


class Classifier(Protocol):
    """Gives the file type of a path and the priority of that type.

    A classifier may have a third method, ``is_final(path) -> bool``: whether the first version of
    the path is a final output. What a caller says takes precedence, and holds for later versions.
    """

    def classify(self, path: str) -> str:
        """Return the file type of a path relative to the work directory, at most 32 characters."""

    def prioritise(self, file_type: str, *, is_final_output: bool) -> str:
        """Return one of `PRIORITIES`."""


def says_final(classifier: Classifier, path: str) -> bool:
    """Whether a classifier says that a path is a final output; most of them say nothing of that."""
    is_final = getattr(classifier, "is_final", None)
    return is_final is not None and bool(is_final(path))


@dataclass(frozen=True, slots=True)
class RuleClassifier:
    """Classifies paths by lookup tables. The default tables are those of the specification.

    To change a table, use `dataclasses.replace`. Keys are lower case.
    """

    by_directory: Mapping[str, str]
    """File type by directory name."""
    by_extension: Mapping[str, str]
    """File type by extension, without the dot."""
    by_name: Mapping[str, str]
    """File type by a whole word of the file name. Only documents are looked up here."""
    decisive: frozenset[str]
    """File types for which the extension takes precedence over the directory."""
    priorities: Mapping[str, str]
    """Priority by file type. Types that are not listed are internal; final outputs are primary."""
    otherwise: str = "other"

    def classify(self, path: str) -> str:
        """Return the file type of a path relative to the work directory.

        The extension decides for the `decisive` types: by default code, plots and logs. For
        other files the innermost directory listed in `by_directory` decides. If there is none,
        a whole word of the name decides for documents, and the extension for the rest.
        """
        directory, _, name = path.rpartition("/")
        stem, _, extension = name.lower().rpartition(".")
        by_extension = self.by_extension.get(extension, self.otherwise) if stem else self.otherwise
        if by_extension in self.decisive:
            return by_extension
        if directory:
            for part in reversed(directory.split("/")):
                if part in self.by_directory:
                    return self.by_directory[part]
        if extension in _NAMED_EXTENSIONS:
            for word in _WORDS.findall(stem):
                if word in self.by_name:
                    return self.by_name[word]
        return by_extension

    def prioritise(self, file_type: str, *, is_final_output: bool) -> str:
        """Return the priority: primary, secondary or internal."""
        return "primary" if is_final_output else self.priorities.get(file_type, "internal")


_WORDS: Final = re.compile(r"[a-z]+")
_NAMED_EXTENSIONS: Final = frozenset(("json", "md", "txt", "html", "pdf", "tex"))

DEFAULT_CLASSIFIER: Final = RuleClassifier(
    by_directory={
        "chats": "chat",
        "codebase": "code",
        "context": "context",
        "cost": "cost",
        "logs": "log",
        "planning": "plan",
        "plots": "plot",
        "reports": "report",
    },
    by_extension={
        extension: kind
        for kind, extensions in {
            "code": "c cc cpp cu f90 go h hpp ipynb java jl js m pl py pyx r rs sh sql ts",
            "data": (
                "arrow avro csv dat db feather fits h5 hdf5 json jsonl mat nc npy npz parquet "
                "pickle pkl root sqlite toml tsv txt xls xlsx xml yaml yml zarr zip gz"
            ),
            "log": "log out err",
            "plot": "bmp eps gif jpeg jpg png svg tif tiff webp",
            "report": "doc docx htm html md pdf rst tex",
        }.items()
        for extension in extensions.split()
    },
    by_name={
        word: kind
        for kind, words in {
            "plan": "plan plans",
            "report": "report reports summary",
            "chat": "chat chats",
            "cost": "cost costs",
        }.items()
        for word in words.split()
    },
    decisive=frozenset(("code", "plot", "log")),
    priorities={
        **dict.fromkeys(("plot", "data", "code", "plan"), "primary"),
        **dict.fromkeys(("report", "chat"), "secondary"),
    },
)
