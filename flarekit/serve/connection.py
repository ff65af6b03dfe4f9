"""What is promised of a connection before a request is understood: its head is short, and nobody is waited for in vain.

uvicorn's protocol for httptools has no limits of its own: a line, a header or an address may be of any length, and a
client that stops in the middle of its head, its body or its answer is kept for ever.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from flarekit.serve.middleware import error_body

LONGEST_URL = 8 << 10
LONGEST_HEAD = 32 << 10
"""Bytes of an address, and of all headers (of a body's trailers too)."""
MOST_HEADERS = 100
LINGER = 5.0
"""Seconds in which a client may read what is left, once its connection is being closed."""
RESERVE = 64
"""Descriptors for what is no connection: files, the event loop, logs."""
PER_REQUEST = 3
"""Descriptors of a request at work: its client's connection, an engine's and a retriever's."""


class _TooMuch(Exception):
    """Raised out of the parser: a head of more than it may have."""


class Connection(HttpToolsProtocol):
    """A client's connection; `seconds` and `most` are set by `limited`."""

    seconds = 30.0
    """How long a head, a body, or a part of an answer may be waited for."""
    most = 1 << 30
    """How many connections there may be."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head = self._count = self._unread = 0
        self._refused = False
        self._refusal = (400, "the request is not HTTP")
        self._sent: asyncio.TimerHandle | None = None
        self._taken: asyncio.TimerHandle | None = None
        self._left = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, or refuse it at once."""
        super().connection_made(transport)
        if len(self.connections) > self.most + RESERVE // 2:
            transport.abort()
        elif len(self.connections) > self.most:
            self._refuse(429, "the server has as many connections as it can have; try again in a second", 0.2)
        else:
            self._await_client()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._cancel("_sent")
        self._cancel("_taken")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Let the parser see what comes; of a client that was refused nothing is looked at."""
        if self._refused or self.transport.is_closing():
            return
        self._unread += len(data)
        super().data_received(data)
        # A line that does not end stays inside the parser, which tells nothing of it.
        if self._unread > LONGEST_URL + 2 * LONGEST_HEAD and not self._refused:
            self._too_long()
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._sent is None and self.timeout_keep_alive_task is None:
            self._await_client()  # it has sent something that is no request yet

    def send_400_response(self, msg: str) -> None:
        """The refusal of what is no request, or too long a one."""
        self._refuse(*self._refusal)

    # --- the head --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Count anew."""
        self._head = self._count = 0
        self._await_client()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        if len(self.url) + len(url) > LONGEST_URL:
            self._refusal = (414, f"the request's address has more than {LONGEST_URL} bytes")
            raise _TooMuch
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        self._head += len(name) + len(value)
        self._count += 1
        if self._head > LONGEST_HEAD or self._count > MOST_HEADERS:
            self._refusal = _LONG_HEAD
            raise _TooMuch
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The body has as long as the head had."""
        self._unread = 0
        self._await_client(1.0)  # the application tells the client of it, if it is still there
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The client has said everything."""
        self._unread = 0
        self._cancel("_sent")
        super().on_message_complete()

    # --- waiting ---------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to: it must take something within `seconds`."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """It has read."""
        self._cancel("_taken")
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing was asked for a while."""
        self._close()

    def _await_client(self, more: float = 0.0) -> None:
        self._cancel("_sent")
        self._sent = self.loop.call_later(self.seconds + more, self._close)

    def _await_reader(self) -> None:
        self._cancel("_taken")
        self._left = self.transport.get_write_buffer_size()
        self._taken = self.loop.call_later(self.seconds, self._check_reader)

    def _check_reader(self) -> None:
        if self.transport.get_write_buffer_size() < self._left:
            self._await_reader()
        else:
            self.transport.abort()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if self.transport.is_closing():
            self.loop.call_later(self.seconds, self.transport.abort)

    def _close(self, linger: float = LINGER) -> None:
        """Close, and do not wait long for what the client has not read yet."""
        if not self.transport.is_closing():
            self.transport.close()
        self.loop.call_later(linger, self.transport.abort)

    def _cancel(self, timer: str) -> None:
        running: asyncio.TimerHandle | None = getattr(self, timer)
        if running is not None:
            running.cancel()
            setattr(self, timer, None)

    def _too_long(self) -> None:
        self._refuse(*_LONG_HEAD)

    def _refuse(self, status: int, message: str, linger: float = LINGER) -> None:
        """Answer what is no request to the server, and look at nothing that follows."""
        self._refused = True
        self._cancel("_sent")
        content = orjson.dumps(error_body(status, message))
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(content)
        hint = b"retry-after: 1\r\n" if status == 429 else b""
        if self.cycle is not None and not self.cycle.response_complete:
            self._close()  # in the middle of an answer there is nothing to be said
            return
        self.transport.write(STATUS_LINE[status] + head + hint + b"\r\n" + content)
        # Closed at once, the rest of what the client sends would take the answer from it.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(linger, self._close, 0.0)


_LONG_HEAD = (431, f"the headers have more than {LONGEST_HEAD} bytes, or are more than {MOST_HEADERS}")


def limited(seconds: float, concurrent: int) -> tuple[type[Connection], int]:
    """The protocol for a server whose clients may keep it waiting for `seconds`, and how many may be at work.

    That is `concurrent`, or as many as this process has descriptors for: its limit is raised as far as it may be.
    """
    soft = _descriptors()
    free = max(PER_REQUEST * 2, soft - RESERVE)
    at_work = min(concurrent, free // (PER_REQUEST + 1))
    if at_work < concurrent:
        logging.getLogger("flarekit.serve").warning(
            "%d descriptors are enough for %d requests at work, not for %d; raise the limit (ulimit -n)",
            soft,
            at_work,
            concurrent,
        )
    # The descriptors that the engines' and the retriever's connections may take are kept for them.
    most = free - (PER_REQUEST - 1) * at_work
    return type("Connection", (Connection,), {"seconds": seconds, "most": most}), at_work


def _descriptors() -> int:
    """How many descriptors this process may have, once that is as many as it may ask for."""
    if sys.platform == "win32":
        return 1 << 16
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if wanted > soft >= 0:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)
