"""TLS with half-closed connections, which asyncio's own does not have and Docker's client needs.

The docker CLI says "no more input" by ending its half of the TLS session, at once when there is no ``-i``, and goes
on reading. asyncio takes that for the end of the whole connection, and the output of every ``docker run`` would be
lost. So each connection is decrypted here, and handed on to the server through a socket pair::

    client ⇄ TLS over TCP ⇄ TlsRelay ⇄ socket pair ⇄ the server's protocol
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from wherry.api.connection import Caller, Connection
from wherry.api.hijack import NearEnd, Side

log = logging.getLogger("wherry.api")

_HANDSHAKE = 30.0  # seconds that a client gets for it
_PIECE = 1 << 18  # bytes decrypted at a time


class TlsRelay(Side):
    """The outer side: what comes from the client and goes to it. ``serve`` makes the protocol of a plain connection."""

    half_open = True

    def __init__(self, context: ssl.SSLContext, serve: Callable[[], Connection]) -> None:
        super().__init__()
        self._serve = serve
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._inner: NearEnd | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._established = False
        self._ended = False  # the client has ended its half
        self._finished = False  # we have ended ours

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._timer = asyncio.get_running_loop().call_later(_HANDSHAKE, cast(asyncio.Transport, transport).abort)

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        try:
            if not self._established:
                self._shake_hands()
            if self._inner is not None:
                self._decrypt(self._inner)
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            log.info("TLS: %s", error.reason or error)
            self._flush()  # the alert that tells the client why
            self.close()

    def _shake_hands(self) -> None:
        self._session.do_handshake()
        self._flush()
        self._established = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.pause_reading()
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        """Gives the server its end of a socket pair, and begins to relay."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        inner = NearEnd(self)
        await inner.connect(ours)
        _, connection = await loop.create_unix_connection(self._serve, sock=theirs)
        connection.caller = self._caller()
        if self._transport is None:
            inner.abort()
            return
        self._inner = inner
        self._transport.resume_reading()
        self.data_received(b"")

    def _caller(self) -> Caller | None:
        certificate = self._session.getpeercert(binary_form=True)
        if not certificate:
            return None
        subject: Any = (self._session.getpeercert() or {}).get("subject", ())
        names = {name: value for part in subject for name, value in part}
        return Caller(names.get("commonName", ""), ssl.DER_cert_to_PEM_cert(certificate).encode())

    def _decrypt(self, inner: NearEnd) -> None:
        """Ends with SSLWantReadError when all is read, and with b"" when the client has ended its half."""
        while not self._ended:
            data = self._session.read(_PIECE)
            if data:
                inner.write(data)
            else:
                self._ended = True
                inner.end()
        self._flush()

    def send(self, data: bytes) -> None:
        if self._transport is None or self._finished:
            return
        self._session.write(data)
        self._flush()

    def near_ended(self) -> None:
        """No more comes from the server: ends our half, and the connection if the client has ended its own."""
        if self._transport is None or self._finished:
            return
        self._finished = True
        with contextlib.suppress(ssl.SSLError):  # it would also wait for the client's half to end
            self._session.unwrap()
        self._flush()
        if self._ended:
            self.close()

    def near_lost(self) -> None:
        self.near_ended()
        self.close()

    def _flush(self) -> None:
        if self._outgoing.pending and self._transport is not None:
            self._transport.write(self._outgoing.read())

    def eof_received(self) -> None:
        """The end of TCP is the end of both halves; asyncio closes."""

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._inner is not None:
            self._inner.abort()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_reading()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_reading()
