"""TLS whose halves end one by one, as Docker's client ends them."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from wherry.api.tls import TlsRelay
from wherry.common.tls import client_context, server_context


class Echo(asyncio.Protocol):
    """Answers with what it got, but only once the client has said that this was all."""

    def __init__(self) -> None:
        self.got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.got += data

    def eof_received(self) -> None:
        self.transport.write(self.got)


class TlsClient:
    """A TLS session by hand, since Python's own sockets cannot end one half."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname="engine")

    async def open(self, port: int) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            try:
                self._session.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
            else:
                self._flush()
                return

    def write(self, data: bytes) -> None:
        self._session.write(data)
        self._flush()

    def end(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._session.unwrap()
        self._flush()

    async def read(self) -> bytes:
        """All that comes."""
        data = b""
        while True:
            try:
                piece = self._session.read(65536)
            except ssl.SSLWantReadError:
                await self._exchange()
                continue
            except ssl.SSLZeroReturnError:
                return data
            if not piece:
                return data
            data += piece

    def close(self) -> None:
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write(self._outgoing.read())

    async def _exchange(self) -> None:
        self._flush()
        data = await asyncio.wait_for(self._reader.read(65536), 10)
        if not data:
            raise EOFError
        self._incoming.write(data)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
         "/CN=engine", "-addext", "subjectAltName=DNS:engine", "-out", paths[0], "-keyout", paths[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return paths


@pytest.fixture
async def port(certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    """Where an Echo listens that asks for a certificate."""
    path, key = map(str, certificate)
    context = server_context(path, key, clients=path)
    door = await asyncio.get_running_loop().create_server(lambda: TlsRelay(context, Echo), "127.0.0.1", 0)
    yield door.sockets[0].getsockname()[1]
    door.close()


def context_of(certificate: tuple[Path, Path], *, known: bool = True) -> ssl.SSLContext:
    path, key = map(str, certificate)
    return client_context(path, path, key) if known else client_context(path)


@pytest.mark.parametrize("size", [5, 3_000_000])
async def test_an_answer_follows_the_end_of_the_clients_half(
    certificate: tuple[Path, Path], port: int, size: int
) -> None:
    client = TlsClient(context_of(certificate))
    await client.open(port)
    client.write(b"x" * size)
    client.end()
    assert len(await client.read()) == size
    client.close()


async def test_a_client_without_a_certificate_gets_nothing(certificate: tuple[Path, Path], port: int) -> None:
    client = TlsClient(context_of(certificate, known=False))
    with pytest.raises((ssl.SSLError, EOFError, ConnectionError)):
        await client.open(port)
        client.end()
        await client.read()
    client.close()


async def test_what_is_not_tls_is_closed(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /_ping HTTP/1.1\r\nHost: e\r\n\r\n")
    assert b"OK" not in await asyncio.wait_for(reader.read(), 10)
    writer.close()
