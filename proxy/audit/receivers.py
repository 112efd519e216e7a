"""Where exported records go: a file, a syslog receiver, an HTTP endpoint. Each takes batches, in order.

A delivery returns once the receiver has the whole batch, as far as its protocol can tell: a file is synced;
an HTTP endpoint has answered 2xx; syslog has no acknowledgement of its own (RFC 5425, RFC 6587), so there it
is the receiver's kernel that has acknowledged every byte, on a connection that is still open. Whatever goes
wrong before that, the whole batch is delivered again: at least once.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import select
import socket
import ssl
import stat
import struct
import sys
import termios
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from proxy import __version__, durable
from proxy.access import AccessEvent
from proxy.errors import CounterfoilError

TIMEOUT: Final = 30.0
"""Seconds that a receiver may take for one step."""
_MOST_ANSWER: Final = 64 << 10
_CHUNK: Final = 64 << 10
_AGAIN: Final = frozenset({408, 425, 429})
"""Statuses below 500 after which the same request may be sent again (RFC 9110, RFC 6585, RFC 8470)."""


class Message(NamedTuple):
    """One record on its way: its line without an end, and the event that it is of."""

    line: bytes
    event: AccessEvent


class NotTaken(Exception):
    """A receiver did not take a batch, and may take it later; the text says why."""


class Refused(CounterfoilError):
    """A receiver will not take what it is given, however often; the text says why."""


class Receiver(ABC):
    """One of them; `name` is shown, and holds no secret."""

    name: str

    @abstractmethod
    def deliver(self, batch: Sequence[Message]) -> None:
        """Return once it has all of `batch`. Raises NotTaken, Refused."""

    def close(self) -> None:
        """Let go of it."""
        return


class Lines(Receiver):
    """Standard output, which remembers nothing."""

    name = "standard output"

    def deliver(self, batch: Sequence[Message]) -> None:
        """Print it. Raises Refused where nobody reads any more."""
        try:
            sys.stdout.buffer.write(b"".join(message.line + b"\n" for message in batch))
            sys.stdout.buffer.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # else the interpreter tries once more at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Refused(f"standard output takes no more: {error.strerror}") from None


class File(Receiver):
    """Lines at the end of a file. It may be renamed between two batches, as logrotate does."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def deliver(self, batch: Sequence[Message]) -> None:
        """Append and sync it. A line that an earlier end has cut off is taken away first."""
        try:
            is_new = not self._path.exists()
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._path, flags, durable.PRIVATE_FILE)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise Refused(f"{self.name} is no file")
                if os.pread(descriptor, 1, 0) not in (b"", b"{"):  # the log itself, say
                    raise Refused(f"{self.name} is a file of something else than JSON lines")
                _mend(descriptor)
                data = memoryview(b"".join(message.line + b"\n" for message in batch))
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                durable.sync_folder(self._path.parent)
        except OSError as error:
            raise NotTaken(f"{error.strerror}") from error


def _mend(descriptor: int) -> None:
    """Cut the file after its last line end."""
    end = size = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _CHUNK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)


class Syslog(Receiver):
    """RFC 5424 messages with their length before them: over TLS (RFC 5425), or plain (RFC 6587 §3.4.1)."""

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None, timeout: float = TIMEOUT
    ) -> None:
        """`timeout`: seconds that each step may take."""
        self.name = f"{host}:{port}"
        self._timeout = timeout
        self._address = (host, port)
        self._tls = tls
        self._connection: socket.socket | None = None
        self._host = own_name()

    def deliver(self, batch: Sequence[Message]) -> None:
        """Send it, and wait until every byte is acknowledged."""
        frames = b"".join(framed(syslog_message(message, self._host)) for message in batch)
        try:
            connection = self._connected()
            connection.sendall(frames)
            _acknowledged(connection, self._timeout)
            if _has_ended(connection):
                raise ConnectionResetError("it closed the connection")
        except OSError as error:
            self._drop()
            raise NotTaken(_said(error)) from error

    def _connected(self) -> socket.socket:
        if self._connection is not None and not _has_ended(self._connection):
            return self._connection
        self._drop()
        connection = socket.create_connection(self._address, timeout=self._timeout)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_hostname=self._address[0])
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """End the connection as TLS has it (RFC 5425 §4.4), whether or not the other side answers."""
        if isinstance(self._connection, ssl.SSLSocket):
            self._connection.settimeout(1)
            with contextlib.suppress(OSError):
                self._connection.unwrap()
        self._drop()


def _acknowledged(connection: socket.socket, seconds: float) -> None:
    """Wait until the other side's kernel has acknowledged all that was sent. Raises OSError."""
    give_up, pause = time.monotonic() + seconds, 0.0002
    while True:
        waiting = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)  # tcp(7), SIOCOUTQ
        if struct.unpack("i", waiting)[0] == 0:
            return
        if time.monotonic() > give_up:
            raise TimeoutError(f"it did not acknowledge in {seconds:g} seconds")
        time.sleep(pause)
        pause = min(0.05, pause * 2)


def _has_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed; what else it says is of no meaning here, and let go of."""
    seconds = connection.gettimeout()
    try:
        while select.select([connection], [], [], 0)[0] or (
            isinstance(connection, ssl.SSLSocket) and connection.pending()
        ):
            connection.settimeout(0)
            if not connection.recv(_CHUNK):
                return True
    except (ssl.SSLWantReadError, BlockingIOError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(seconds)
    return False


_AUDIT: Final = 13
"""The facility `log audit` (RFC 5424 §6.2.1)."""
_SEVERE: Final = {"refusal": 5, "unresolved": 4, "burst": 4, "drift": 4, "policy-refused": 4}
_INFORMATIONAL: Final = 6


def syslog_message(message: Message, host: str) -> bytes:
    """The message of RFC 5424: `<110>1 2026-11-23T22:58:40.123456Z host counterfoil - complete - {"…"}`.

    Text beyond ASCII follows a byte order mark, as its §6.4 has it.
    """
    event = message.event
    priority = _AUDIT * 8 + _SEVERE.get(event.step, _INFORMATIONAL)
    head = f"<{priority}>1 {event.at} {host} counterfoil - {event.step} - ".encode()
    return head + (b"" if message.line.isascii() else b"\xef\xbb\xbf") + message.line


def framed(message: bytes) -> bytes:
    """A message with its length in octets before it (RFC 5425 §4.3)."""
    return b"%d %b" % (len(message), message)


def own_name() -> str:
    """This machine's name as RFC 5424 §6.2.4 allows it: printable ASCII, 255 characters."""
    name = "".join(c for c in socket.gethostname() if "!" <= c <= "~")
    return name[:255] or "-"


class Http(Receiver):
    """An endpoint that takes a batch as the body of a POST, a record a line (NDJSON)."""

    def __init__(
        self, host: str, port: int, target: str, *, token: str | None, tls: ssl.SSLContext | None
    ) -> None:
        self.name = f"{'https' if tls else 'http'}://{host}:{port}{target.partition('?')[0]}"
        self._target = target
        self._headers = {
            "Content-Type": "application/x-ndjson",
            "User-Agent": f"counterfoil/{__version__}",
        }
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._open: Callable[[], http.client.HTTPConnection] = (
            (lambda: http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=tls))
            if tls is not None
            else (lambda: http.client.HTTPConnection(host, port, timeout=TIMEOUT))
        )
        self._connection: http.client.HTTPConnection | None = None

    def deliver(self, batch: Sequence[Message]) -> None:
        """Post it; in halves, one after the other, where it is too large for the endpoint."""
        status = self._post(b"".join(message.line + b"\n" for message in batch))
        if 200 <= status < 300:
            return
        if status in _AGAIN or status >= 500:
            raise NotTaken(f"it answered {status}")
        if status == http.client.REQUEST_ENTITY_TOO_LARGE and len(batch) > 1:
            middle = len(batch) // 2
            self.deliver(batch[:middle])
            self.deliver(batch[middle:])
            return
        raise Refused(f"{self.name} refuses the records: it answered {status}")

    def _post(self, body: bytes) -> int:
        if self._connection is None:
            self._connection = self._open()
        try:
            self._connection.request("POST", self._target, body=body, headers=self._headers)
            answer = self._connection.getresponse()
            rest = answer.read(_MOST_ANSWER)
            if len(rest) == _MOST_ANSWER or answer.will_close:
                self.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NotTaken(_said(error)) from error
        return answer.status

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _said(error: Exception) -> str:
    """What went wrong, in words that hold nothing that was sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__
