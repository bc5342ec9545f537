"""What kind of file a path is, judged by its directory, name and extension.

Only the kind: who made a file is never guessed from its path. The kinds and priorities are those
of the specification that the library came from (stage 4, "File Tracking Overhaul", task 4.2).
"""

from __future__ import annotations

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
_BY_NAME: Final = (("plan", "plan"), ("report", "report"), ("chat", "chat"), ("cost", "cost"))
_NAMED_EXTENSIONS: Final = frozenset(("json", "md", "txt", "html", "pdf", "tex"))


def classify(path: str) -> str:
    """Return the file type of a path relative to the work directory.

    Code, plots and logs are told by extension wherever they are; what an extension leaves open is
    told by the name, then by the innermost directory that means something.
    """
    directory, _, name = path.rpartition("/")
    stem, _, extension = name.lower().rpartition(".")
    by_extension = _BY_EXTENSION.get(extension, "other") if stem else "other"
    if by_extension in ("code", "plot", "log"):
        return by_extension
    if extension in _NAMED_EXTENSIONS:
        for word, kind in _BY_NAME:
            if word in stem:
                return kind
    if directory:
        for part in reversed(directory.split("/")):
            if part in _BY_DIRECTORY:
                return _BY_DIRECTORY[part]
    return by_extension


def prioritise(file_type: str, *, is_final_output: bool) -> str:
    """Return the priority: primary, secondary or internal."""
    if is_final_output or file_type in ("plot", "data", "code", "plan"):
        return "primary"
    if file_type in ("report", "chat"):
        return "secondary"
    return "internal"
