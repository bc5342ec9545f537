"""What kind of file a path is, judged by its directory, name and extension.

Only the kind: who made a file is never guessed from its path. The kinds and priorities are those
of the specification that the library came from (stage 4, "File Tracking Overhaul", task 4.2).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["PRIORITIES", "classify", "prioritise"]

PRIORITIES: Final = ("primary", "secondary", "internal")

_BY_DIRECTORY: Final = {
    "chats": "chat",
    "codebase": "code",
    "context": "context",
    "cost": "cost",
    "logs": "log",
    "planning": "plan",
    "plots": "plot",
    "reports": "report",
}
_BY_EXTENSION: Final = {
    extension: kind
    for kind, extensions in {
        "code": "c cc cpp cu f90 go h hpp ipynb java jl js m pl py pyx r rs sh sql ts",
        "data": (
            "arrow avro csv dat db feather fits h5 hdf5 json jsonl mat nc npy npz parquet pickle "
            "pkl root sqlite toml tsv txt xls xlsx xml yaml yml zarr zip gz"
        ),
        "log": "log out err",
        "plot": "bmp eps gif jpeg jpg png svg tif tiff webp",
        "report": "doc docx htm html md pdf rst tex",
    }.items()
    for extension in extensions.split()
}
_BY_NAME: Final = {
    word: kind
    for kind, words in {
        "plan": "plan plans",
        "report": "report reports summary",
        "chat": "chat chats",
        "cost": "cost costs",
    }.items()
    for word in words.split()
}
_WORDS: Final = re.compile(r"[a-z]+")
_NAMED_EXTENSIONS: Final = frozenset(("json", "md", "txt", "html", "pdf", "tex"))


def classify(path: str) -> str:
    """Return the file type of a path relative to the work directory.

    Code, plots and logs are told by extension wherever they are; what an extension leaves open is
    told by the innermost directory that means something, then by a whole word of the name.
    """
    directory, _, name = path.rpartition("/")
    stem, _, extension = name.lower().rpartition(".")
    by_extension = _BY_EXTENSION.get(extension, "other") if stem else "other"
    if by_extension in ("code", "plot", "log"):
        return by_extension
    if directory:
        for part in reversed(directory.split("/")):
            if part in _BY_DIRECTORY:
                return _BY_DIRECTORY[part]
    if extension in _NAMED_EXTENSIONS:
        for word in _WORDS.findall(stem):
            if word in _BY_NAME:
                return _BY_NAME[word]
    return by_extension


def prioritise(file_type: str, *, is_final_output: bool) -> str:
    """Return the priority: primary, secondary or internal."""
    if is_final_output or file_type in ("plot", "data", "code", "plan"):
        return "primary"
    if file_type in ("report", "chat"):
        return "secondary"
    return "internal"
