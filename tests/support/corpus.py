"""A corpus of hostile files and names: contents that try to run, to hide, or to take too much."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np

__all__ = ["MARK", "files", "names"]

MARK = "hostile-content-ran"
"""The text that scripts of the corpus write. No page may ever have it as its title."""

_RUN = f"document.title='{MARK}'"

_HTML = (
    f"<script>{_RUN}</script><img src=x onerror=\"{_RUN}\"><svg onload=\"{_RUN}\"></svg>"
    f"<a href=\"javascript:{_RUN}\">go</a><iframe srcdoc=\"<script>{_RUN}</script>\"></iframe>"
    f"<a href=\"data:text/html,<script>{_RUN}</script>\">data</a><style>*{{display:none}}</style>"
    f"<form action=\"javascript:{_RUN}\"><button>b</button></form><base href=\"//evil.example/\">"
    f"<meta http-equiv=refresh content=\"0;url=//evil.example\"><math><mtext></form><form><mglyph>"
    f"<style></math><img src onerror={_RUN}><bdo dir=rtl>reordered</bdo><p hidden>&#x202e;hidden"
    "</div></div></main><object data=x></object><embed src=x>"
    "<link rel=stylesheet href=//evil.example/a.css>"
)  # fmt: skip

_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    f'width="100" height="100" onload="{_RUN}"><script>{_RUN}</script>'
    f'<foreignObject><body xmlns="http://www.w3.org/1999/xhtml"><img src="x" onerror="{_RUN}"/>'
    '</body></foreignObject><image xlink:href="http://evil.example/a.png"/>'
    '<use xlink:href="http://evil.example/a.svg#b"/><rect width="50" height="50"/></svg>'
)

_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">'
        for n in range(9)
    )
    + ']><svg xmlns="http://www.w3.org/2000/svg"><text>&j;</text></svg>'
)  # fmt: skip

_MARKDOWN = f"""# Title

{_HTML}

[run](javascript:{_RUN}) [data](data:text/html;base64,PHNjcmlwdD4=) [file](file:///etc/passwd)
[web](https://example.org "title") <javascript:{_RUN}> ![remote](http://evil.example/a.png)
![relative](../a.png) [spaced](java
script:{_RUN}) [entity](&#106;avascript:{_RUN}) ![data](data:image/svg+xml;base64,PHN2Zz4=)

Reordered: &#x202e;txt.exe and \u202etxt.exe

| a | b |
|---|---|
| `<script>` | <script>{_RUN}</script> |
"""


def files() -> dict[str, bytes]:
    """Return contents by name. Each is some KiB, or a few MiB."""
    text = {
        "page.html": _HTML,
        "page.xhtml": f'<html xmlns="http://www.w3.org/1999/xhtml">{_HTML}</html>',
        "script.js": _RUN,
        "drawing.svg": _SVG,
        "laughs.svg": _LAUGHS,
        "laughs.xml": _LAUGHS,
        "not.svg": _HTML,
        "notes.md": _MARKDOWN,
        "deep.md": ">" * 20_000 + "[" * 20_000 + "*a " * 20_000,
        "terminal.txt": "\x1b]0;title\x07\x1b[31mred\x1b[2J\x1b[8mhidden\x1b[0m\x9b31m\x08\x08\r\n",
        "bidi.py": "access = 'user\u202e \u2066# admin\u2069 \u2066'\nif access:\u200b\n  pass\n",
        "formulas.csv": 'name,value\n=cmd|\'/C calc\'!A0,"<script>x</script>"\n@SUM(1),+1\n',
        "wide.csv": "\n".join([",".join(["1"] * 100_000)] * 2),
        "quotes.csv": 'a,b\n"never closed,1\n' * 1000,
        "deep.json": "[" * 100_000 + "]" * 100_000,
        "huge-number.json": "[" + "9" * 100_000 + ", 1e999999, NaN]",
        "twice.json": json.dumps({"<script>": _HTML, "\ud800": "\ud800\u202e"})[:-1] + ', "a": 1}',
        "many.json": json.dumps([[]] * 200_000),
        "lines.jsonl": '{"a": "<img onerror=1>"}\n' * 200 + "{",
        "notebook.ipynb": _notebook(),
        "broken.ipynb": '{"cells": [{"cell_type": {}}]}',
        "slow.rb": "=begin\n" * 40_000,  # takes minutes to highlight
        "long-line.js": "a=" + "(" * 200_000,
        "unclosed.rb": "#{" * 5_000,
    }  # fmt: skip
    found = {name: content.encode("utf-8", "surrogatepass") for name, content in text.items()}
    return found | _binary()


def names() -> list[str]:
    """Return names that a file of a work directory can have, without directories."""
    return [
        "<script>document.title='x'</script>.txt".replace("/", "\u2215"),
        '"><img src=x onerror=alert(1)>.csv',
        "'; alert(1); '.py",
        "line\nbreak\r\n.txt",
        "tab\there.txt",
        "invoice\u202egnp.exe",
        "zero\u200bwidth\ufeff.txt",
        "..%2f..%2fetc%2fpasswd",
        "..\\..\\windows.txt",
        "\x1b[31mred\x1b[0m.txt",
        b"not-utf8-\xff\xfe.txt".decode("utf-8", "surrogateescape"),
        "x" * 251 + ".txt",
        "{{ 7 * 7 }}.txt",
        "%00.txt",
        " leading and trailing ",
        "-rf",
        "e\u0301.txt",
    ]


def _binary() -> dict[str, bytes]:
    pickled = io.BytesIO()
    np.save(pickled, np.array([_Runs()], dtype=object), allow_pickle=True)
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }"
    pdf = f"%PDF-1.7\n<html><script>{_RUN}</script></html>\n%%EOF".encode()
    return {
        "bomb.npz": _zip({"a.npy": _npy(header % b"1000000000,") + bytes(32 << 20)}),
        "many.npz": _zip({f"{number}.npy": _npy(header % b"1,") for number in range(300)}),
        "text.npz": _zip({"../../evil.npy": b"text"}),
        "bomb.gz": gzip.compress(bytes(32 << 20)),
        "bomb.csv.gz": gzip.compress(b"a,b\n" * (1 << 20)),
        "huge.png": _png(30_000, 30_000),
        "zero.png": _png(0, 0),
        "polyglot.gif": b"GIF89a/*" + bytes(8) + f"*/=1;{_RUN}".encode(),
        "polyglot.pdf": pdf,
        "page.pdf.html": b"<!-- -->" + pdf,
        "pickled.npy": pickled.getvalue(),
        "code.npy": _npy(b"__import__('os').system('true')"),
        "deep.npy": _npy(b"(" * 9_000),
        "endless.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFFF) + b"{" * 4096,
        "negative.npy": _npy(header % b"-1,"),
        "model.pkl": pickle.dumps(_Runs()),
        "absurd.parquet": b"PAR1" + bytes(64) + struct.pack("<I", 0x7FFFFFFF) + b"PAR1",
        "noise.parquet": b"PAR1" + bytes(range(256)) * 8 + struct.pack("<I", 1024) + b"PAR1",
        "noise.h5": b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 16,
        "zeros.txt": b"text\0\0with zero bytes\0",
        "latin.txt": "Größe in µm\n".encode("latin-1") * 20,
        "utf16.csv": "a,b\n1,2\n".encode("utf-16"),
        "noise.jpg": b"\xff\xd8\xff\xe0\x00\x00" + bytes(range(256)) * 4,
        "text.png": b"not an image",
        "scan.tiff": b"II*\0" + bytes(64),
    }


class _Runs:
    """An object whose pickle runs code when it is loaded."""

    def __reduce__(self):
        return (eval, ("__import__('os').kill(__import__('os').getpid(), 9)",))


def _npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def _png(width: int, height: int) -> bytes:
    """Return the header of an image whose pixels are one packed line of zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _notebook() -> str:
    def shown(**data):
        kinds = {
            name.replace("__", "/").replace("_xml", "+xml"): each for name, each in data.items()
        }
        return {"output_type": "display_data", "data": kinds, "metadata": {}}

    outputs = [
        {"output_type": "stream", "text": ["<script>x</script>\x1b[31mred\x1b[0m\n"]},
        {"output_type": "error", "traceback": ["\x1b[0;31mError\x1b[0m", _HTML], "ename": "E"},
        shown(text__html=[_HTML]),
        shown(text__html="<table><tr><td onclick='x()'>cell</td></tr></table>"),
        shown(application__javascript=_RUN),
        shown(application__javascript=_RUN, text__plain="<Javascript object>"),
        shown(image__svg_xml=_SVG),
        shown(image__svg_xml=_LAUGHS),
        shown(image__png="not base64\" onerror=\"x()"),
        shown(text__markdown=_MARKDOWN),
    ]  # fmt: skip
    cells = [
        {"cell_type": "markdown", "source": [_MARKDOWN], "metadata": {}},
        {"cell_type": "code", "source": "print('</code></pre><script>')", "outputs": outputs},
        {"cell_type": "raw", "source": _HTML, "metadata": {}},
    ]
    cells += [{"cell_type": "markdown", "source": "more"}] * 300
    language = {"kernelspec": {"language": "<script>"}}
    return json.dumps({"cells": cells, "metadata": language, "nbformat": 4, "nbformat_minor": 5})
