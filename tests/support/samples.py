"""A file of each kind that has a preview of its own, by name."""

from __future__ import annotations

import io
import json
import struct

import h5py
import numpy as np
import PIL.Image
import pyarrow as pa
from pyarrow import parquet
from workflow import WORKDIR

__all__ = ["document", "samples"]


def samples():
    """Return contents by name. Each has another kind of preview, which its name begins with."""
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": "# Fit\n\nA *decay*.", "metadata": {}},
            {
                "cell_type": "code",
                "source": "rates = [0.1, 0.2]\nprint(sum(rates))",
                "metadata": {},
                "outputs": [
                    {"output_type": "stream", "name": "stdout", "text": "0.3\n"},
                    {
                        "output_type": "display_data",
                        "data": {"text/html": "<table><tr><th>rate</th><td>0.1</td></tr></table>"},
                        "metadata": {},
                    },
                ],
            },
        ],
        "metadata": {"kernelspec": {"language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    table = pa.table({"step": [1, 2, 3], "rate": [0.1, None, 0.3], "unit": ["1/s", "1/s", None]})
    return {
        "array.npy": _written(lambda file: np.save(file, np.arange(60.0).reshape(3, 20))),
        "code.py": (WORKDIR / "codebase" / "step_1.py").read_bytes(),
        "empty.txt": b"",
        "hdf5.h5": _written(_write_hdf5),
        "hex.bin": bytes(range(256)) * 4,
        "image.png": _written(PIL.Image.linear_gradient("L").save, format="png"),
        "json.json": (WORKDIR / "planning" / "plan.json").read_bytes(),
        "markdown.md": (WORKDIR / "reports" / "report.md").read_bytes(),
        "notebook.ipynb": json.dumps(notebook).encode(),
        "pdf.pdf": document("BT /F1 24 Tf 20 80 Td (Decay rates) Tj ET"),
        "refused.bmp": struct.pack("<2s12xIiiHH24x", b"BM", 40, 30_000, 30_000, 1, 24),
        "svg.svg": (WORKDIR / "plots" / "fit.svg").read_bytes(),
        "table.parquet": _written(lambda file: parquet.write_table(table, file)),
        "text.txt": "Größe: 12 µm\n".encode() * 5,
    }


def document(drawing, catalog=""):
    """Return a PDF document of one page; `catalog` are further entries of its catalog."""
    objects = (
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(drawing)} >>\nstream\n{drawing}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    file, places = io.BytesIO(), []
    file.write(b"%PDF-1.7\n")
    for number, each in enumerate(objects, 1):
        places.append(file.tell())
        file.write(f"{number} 0 obj\n{each}\nendobj\n".encode())
    table = file.tell()
    file.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    for each in places:
        file.write(f"{each:010} 00000 n \n".encode())
    trailer = f"<< /Size {len(objects) + 1} /Root 1 0 R >>"
    file.write(f"trailer\n{trailer}\nstartxref\n{table}\n%%EOF\n".encode())
    return file.getvalue()


def _written(write, **options):
    file = io.BytesIO()
    write(file, **options)
    return file.getvalue()


def _write_hdf5(file):
    with h5py.File(file, "w") as opened:
        data = opened.create_dataset("fit/residuals", data=np.ones((2, 3), "<f4"))
        data.attrs["unit"] = "counts"
