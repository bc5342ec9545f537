"""What kind of file a path is, judged by its directory, name and extension.

Only the kind: who made a file is never guessed from its path. The kinds and priorities are those
of the specification that the library came from (stage 4, "File Tracking Overhaul", task 4.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_CLASSIFIER", "KINDS", "PRIORITIES", "Classifier", "RuleClassifier"]

PRIORITIES: Final = ("primary", "secondary", "internal")

KINDS: Final = (
    "report", "plot", "data", "code", "plan", "chat", "cost", "context", "log", "other",
)  # fmt: skip
"""The file types of the default rules, in the order in which people want to see them."""


class Classifier(Protocol):
    """Says what kind of file a path is, and how much it matters."""

    def classify(self, path: str) -> str:
        """Return the file type of a path relative to the work directory, at most 32 characters."""

    def prioritise(self, file_type: str, *, is_final_output: bool) -> str:
        """Return one of `PRIORITIES`."""


@dataclass(frozen=True, slots=True)
class RuleClassifier:
    """Classifies by tables; the default ones are the specification's.

    `dataclasses.replace` makes one with other tables. Keys are lower case.
    """

    by_directory: Mapping[str, str]
    """File type by the name of a directory."""
    by_extension: Mapping[str, str]
    """File type by extension, without the dot."""
    by_name: Mapping[str, str]
    """File type by a whole word of the name, asked for documents only."""
    decisive: frozenset[str]
    """File types that an extension settles, whatever the directory."""
    priorities: Mapping[str, str]
    """Priority by file type; a type that isn't here is internal, a final output primary."""
    otherwise: str = "other"

    def classify(self, path: str) -> str:
        """Return the file type of a path relative to the work directory.

        Code, plots and logs are told by extension wherever they are; what an extension leaves open
        is told by the innermost directory that means something, then by a whole word of the name.
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
