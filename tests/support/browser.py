"""A real Chromium for the tests: windows that write down what a page must not do.

The program is `chromium` on the path, or the one that CAS_TEST_CHROMIUM names. Nothing that it
loads comes from another host than 127.0.0.1: every other name resolves to nothing.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import os
import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Error, sync_playwright

__all__ = ["DESKTOP", "PHONE", "Browser", "Kind", "Notice", "Window", "overflows"]

DESKTOP = (1280, 800)
PHONE = (360, 740)

_ARGUMENTS = (
    "--disable-dev-shm-usage",  # it is small in containers
    "--disable-gpu",  # drawing in software takes a quarter less time without the attempt
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

_REFUSALS = ("Content Security Policy", "frame is sandboxed")
"""What Chromium says on the console of everything that a policy refuses, also without scripts."""


class Kind(StrEnum):
    """What a window notices."""

    ERROR = "error on the console"
    VIOLATION = "violation of the content security policy"
    EXCEPTION = "uncaught exception"
    DIALOG = "dialog"
    REQUEST = "request to another host"
    POPUP = "popup"
    DOWNLOAD = "download"


@dataclass(frozen=True)
class Notice:
    kind: Kind
    text: str

    def __str__(self):
        return f"{self.kind}: {self.text}"


class Browser:
    """Chromium, which starts with the first window and stays for the others."""

    def __init__(self):
        self._driver = None
        self._chromium = None
        self._loop = None

    @contextmanager
    def window(self, screenshots, *, size=DESKTOP, dark=False, scripts=True, still=False, **more):
        """Yield a window without history, cookies and cache; it fails on notices nobody took.

        `screenshots` is a directory. `still` asks pages for reduced motion. Further arguments are
        those of Playwright's `Browser.new_context`.
        """
        with self._turn():
            context = self._chromium.new_context(
                viewport={"width": size[0], "height": size[1]},
                color_scheme="dark" if dark else "light",
                java_script_enabled=scripts,
                reduced_motion="reduce" if still else "no-preference",
                locale="en-US",
                timezone_id="UTC",
                **more,
            )
            try:
                look = f"{size[0]}-{'dark' if dark else 'light'}{'' if scripts else '-noscript'}"
                window = Window(context, Path(screenshots), look)
                yield window
                unexpected = [str(notice) for notice in window.take()]
                assert not unexpected, "\n".join(unexpected)
            finally:
                context.close()

    def close(self):
        if self._driver:
            asyncio._set_running_loop(self._loop)
            self._chromium.close()
            self._driver.stop()

    @contextmanager
    def _turn(self):
        """Let the driver's event loop be the running one, for the time of the block only.

        It is suspended between calls, but counts as running. So later tests of this thread could
        run no coroutine.
        """
        before = asyncio._get_running_loop()
        try:
            if self._driver:
                asyncio._set_running_loop(self._loop)
            else:
                self._start()
            yield
        finally:
            asyncio._set_running_loop(before)

    def _start(self):
        program = shutil.which(os.environ.get("CAS_TEST_CHROMIUM") or "chromium")
        if program is None:
            pytest.fail(
                "Install Chromium: apt-get install chromium. Or name one in CAS_TEST_CHROMIUM.",
                pytrace=False,
            )
        driver = sync_playwright().start()
        try:
            self._chromium = driver.chromium.launch(executable_path=program, args=[*_ARGUMENTS])
        except BaseException:
            driver.stop()
            raise
        self._driver = driver
        self._loop = asyncio.get_running_loop()


class Window:
    """A page, and what it did that no page of ours may do."""

    def __init__(self, context, screenshots, look):
        self.page = context.new_page()
        """The page, with everything that Playwright can do."""
        self._context = context
        self._screenshots = screenshots
        self._look = look
        self._notices = []
        context.on("console", self._hear)
        context.on("weberror", lambda event: self._note(Kind.EXCEPTION, str(event.error)))
        context.on("dialog", self._dismiss)
        context.on("requestfailed", self._see)
        context.on("requestfinished", self._see)
        context.on("page", self._pop_up)
        self._watch(self.page)

    def visit(self, url):
        """Open a page, and wait until it has loaded; return the response."""
        return self.page.goto(url)

    def take(self):
        """Return what was noticed, and forget it: a test that expects a notice takes it."""
        for page in self._context.pages:
            page.wait_for_load_state()
            for frame in page.frames:  # a sandboxed one has a process of its own
                with suppress(Error):  # it went away, or to another page
                    frame.evaluate("0")  # notices that were under way arrive before the answer
        taken, self._notices = self._notices, []
        return taken

    def serious(self):
        """Return the serious and critical faults that axe finds, one line for each element."""
        axe = importlib.resources.files("axe_playwright_python") / "axe.min.js"
        self.page.evaluate(axe.read_text())
        found = self.page.evaluate(
            "async () => (await axe.run({iframes: false, resultTypes: ['violations']})).violations"
        )
        return [
            f"{each['id']}: {node['html']}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    def screenshot(self, name):
        """Draw the whole page into a file, and return its path."""
        self._screenshots.mkdir(parents=True, exist_ok=True)
        path = self._screenshots / f"{re.sub(r'[^A-Za-z0-9]+', '-', name)}-{self._look}.png"
        self.page.screenshot(path=path, full_page=True)
        return path

    def _note(self, kind, text):
        self._notices.append(Notice(kind, text))

    def _watch(self, page):
        page.on("crash", lambda _: self._note(Kind.EXCEPTION, "the page crashed"))
        page.on("download", lambda file: self._note(Kind.DOWNLOAD, file.suggested_filename))
        page.on("websocket", lambda socket: self._compare(socket.url))

    def _hear(self, message):
        if message.type == "error":
            refused = any(words in message.text for words in _REFUSALS)
            self._note(Kind.VIOLATION if refused else Kind.ERROR, message.text)

    def _dismiss(self, dialog):
        self._note(Kind.DIALOG, dialog.message)
        dialog.dismiss()

    def _see(self, request):
        if request.failure != "csp":  # refused by the page's own policy, which is a violation
            self._compare(request.url)

    def _compare(self, url):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            self._note(Kind.REQUEST, url)

    def _pop_up(self, page):
        self._note(Kind.POPUP, page.url)
        self._watch(page)


def overflows(page):
    """Return whether the page is wider than the window, so that one must scroll sideways."""
    return page.evaluate(
        "(({scrollWidth: all, clientWidth: seen}) => all > seen)(document.documentElement)"
    )
