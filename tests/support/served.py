"""An ASGI application on a free port of loopback, as `cas serve` runs it."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager

import uvicorn

__all__ = ["served"]


@contextmanager
def served(application, **settings):
    """Yield the URL of an application that uvicorn serves during the block.

    `settings` are further settings of uvicorn. What it logs is captured with the test's output.
    """
    configuration = uvicorn.Config(
        application,
        log_config=None,
        ws="none",
        # A page that follows a run keeps its connection open.
        **{"timeout_graceful_shutdown": 1, **settings},
    )
    server = uvicorn.Server(configuration)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), name="served")
        thread.start()
        try:
            while not server.started and thread.is_alive():
                thread.join(0.005)
            assert server.started, "the application did not start"
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
