"""TLS over a connected socket, with the two things that `ssl.SSLSocket` cannot do: end the sending direction alone
(a container's standard input ends while its output goes on), and never hide decrypted bytes from `poll`."""

from __future__ import annotations

import errno
import ssl
from contextlib import suppress

from wherry.client.transport import ConnectionLost, HostError
from wherry.common.tls import client_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.c_modules import sockets
    from wherry.client.endpoint import TLS

RECORD = 1 << 14  # the most data that one TLS record holds (RFC 8446, 5.1)


def context(tls: TLS) -> ssl.SSLContext:
    """OpenSSL's settings for `tls`. Raises HostError when a file cannot be read or is not PEM."""
    try:
        return client_context(tls.ca, tls.cert, tls.key, verify=tls.verify)
    except ssl.SSLError as error:
        files = ", ".join(path for path in (tls.ca, tls.cert, tls.key) if path)
        raise HostError(f"cannot use the TLS files {files}: {told(error)}") from None
    except OSError as error:
        raise HostError(f"open {error.filename}: {(error.strerror or '').lower()}") from None


def told(error: ssl.SSLError) -> str:
    """What went wrong, without OpenSSL's own names for it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {error.verify_message}"
    reason = (error.reason or str(error)).lower().replace("_", " ")
    _, alert, what = reason.partition(" alert ")
    return f"remote error: tls: {what}" if alert else f"tls: {reason}"


class TLSStream:
    """Looks like a socket. Blocking until `setblocking(False)`."""

    hides = True  # what has arrived, an end too, may be in here where no poll sees it: read until it would block

    def __init__(self, stream: sockets.socket, name: str, tls: TLS) -> None:
        """Shakes hands with the engine; its certificate must be for `name`. Raises ConnectionLost, HostError."""
        self._stream = stream
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._buffer = bytearray(16 * RECORD)
        self._blocking = True
        self._owed = 0  # bytes of the caller's that are encrypted, but not all sent
        self._kept = b""  # decrypted, and not asked for yet
        try:
            self._tls = context(tls).wrap_bio(self._received, self._to_send, server_hostname=name)
            while True:
                try:
                    self._tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    self._flush()
                    self._fill()
            self._flush()
        except ssl.SSLError as error:
            stream.close()
            raise ConnectionLost(f"error during connect: {told(error)}") from None
        except BaseException:
            stream.close()
            raise

    def fileno(self) -> int:
        return self._stream.fileno()

    def _fill(self) -> None:
        """Takes what the socket has. Raises BlockingIOError when that is nothing and the socket does not block."""
        count = self._stream.recv_into(self._buffer)
        if count:
            self._received.write(memoryview(self._buffer)[:count])
        else:
            self._received.write_eof()

    def _flush(self) -> None:
        """Sends what OpenSSL has produced. Raises BlockingIOError, and keeps the rest, when the socket is full."""
        while self._to_send.pending:
            data = self._to_send.read()
            try:
                sent = self._stream.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self._to_send.write(data[sent:])
                if not sent:
                    raise BlockingIOError

    def recv_into(self, buffer: memoryview | bytearray, /) -> int:
        """Decrypted bytes; 0 at the end. Raises BlockingIOError when there are none yet and it does not block."""
        view = memoryview(buffer)
        count = min(len(self._kept), len(view))
        view[:count] = self._kept[:count]
        self._kept = self._kept[count:]
        while count < len(view):
            try:
                read = self._tls.read(len(view) - count, view[count:])
            except ssl.SSLWantReadError:
                if count:
                    break
                self._fill()
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                break
            except ssl.SSLError as error:  # the engine has found fault with the certificate it was shown
                raise OSError(errno.EPROTO, told(error)) from None
            if not read:
                break
            count += read  # type: ignore[operator]  # an int, as it is given a buffer
        return count

    def send(self, data: bytes | memoryview, /) -> int:
        """Sends up to one TLS record of `data`.

        Raises BlockingIOError when the socket is full and does not block; the caller then calls again with the same
        data, of which this remembers what it has encrypted already.
        """
        if not self._owed:
            self._owed = self._tls.write(memoryview(data)[:RECORD])
        self._flush()
        sent, self._owed = self._owed, 0
        return sent

    def sendall(self, data: bytes | memoryview, /) -> None:
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def shutdown(self, how: int, /) -> None:
        """Tells the engine that no more will be sent; reading goes on.

        There may be something to read then that no poll tells of: OpenSSL would throw it away in its goodbye, so it is
        kept here.
        """
        with suppress(ssl.SSLError):
            while data := self._tls.read(RECORD):
                self._kept += data
        with suppress(ssl.SSLError):  # it wants the engine's own goodbye, which comes when the stream ends
            self._tls.unwrap()
        self._stream.setblocking(True)
        self._flush()
        self._stream.setblocking(self._blocking)

    def setblocking(self, flag: bool, /) -> None:
        self._blocking = flag
        self._stream.setblocking(flag)

    def close(self) -> None:
        self._stream.close()
