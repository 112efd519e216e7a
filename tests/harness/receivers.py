"""Receivers of an export: a syslog server and an HTTP endpoint, on real sockets, over TLS where asked."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

TAKEN = 204


class SyslogServer:
    """Takes octet-counted messages (RFC 5425 §4.3); `messages` are all that it has read, in order."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.messages: list[bytes] = []
        self.told = threading.Condition()
        self.is_wrong = ""
        """How the framing was broken, where it was."""
        self._tls = tls
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._read, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _read(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._connections.append(connection)
            with connection, connection.makefile("rb") as stream:
                self._messages(stream)

    def _messages(self, stream) -> None:
        while True:
            length = b""
            while (byte := stream.read(1)) != b" ":
                if not byte:
                    return
                if not byte.isdigit() or (not length and byte == b"0"):
                    self.is_wrong = f"no length: {length + byte!r}"
                    return
                length += byte
            message = stream.read(int(length))
            if len(message) < int(length):
                return  # cut off: it is not there
            with self.told:
                self.messages.append(message)
                self.told.notify_all()

    def until(self, count: int) -> None:
        """Wait until so many messages are there."""
        with self.told:
            assert self.told.wait_for(lambda: len(self.messages) >= count, 30)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self._threads:
            thread.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HttpServer:
    """Answers each POST as `answer` says; None: it hangs up. `bodies` are those that were answered 2xx."""

    def __init__(
        self,
        answer: Callable[[int, bytes], int | None] = lambda number, body: TAKEN,  # noqa: ARG005 - as it is called
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.bodies: list[bytes] = []
        self.requests: list[dict[str, str]] = []
        self.targets: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append({name.lower(): value for name, value in self.headers.items()})
                outer.targets.append(self.path)
                status = answer(len(outer.requests), body)
                if status is None:
                    self.close_connection = True
                    return
                if 200 <= status < 300:
                    outer.bodies.append(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a client that was killed

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    @property
    def lines(self) -> list[bytes]:
        """All records that were taken, in order."""
        return [line for body in self.bodies for line in body.splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
