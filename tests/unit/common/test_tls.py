"""Certificates made as Docker's documentation shows ("Protect the Docker daemon socket") are accepted by every side, on
every Python: from 3.13 on its own defaults refuse their authority, which does not say what its key is for."""

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from wherry.api import listen
from wherry.client import endpoint
from wherry.client import tls as client_tls
from wherry.common.tls import client_context, server_context
from wherry.engine import plugins
from wherry.registry.endpoints import Registries
from wherry.runtime.logging.remote import _tls_context
from wherry.runtime.spec import Syslog

_SERVER = "subjectAltName = DNS:localhost,IP:127.0.0.1\nextendedKeyUsage = serverAuth\n"
_CLIENT = "extendedKeyUsage = clientAuth\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    openssl("genrsa", "-out", "ca-key.pem", "2048")
    openssl(
        "req", "-new", "-x509", "-days", "2", "-key", "ca-key.pem", "-sha256", "-subj", "/CN=here", "-out", "ca.pem"
    )
    for name, extensions in (("server", _SERVER), ("client", _CLIENT)):
        (folder / "extensions").write_text(extensions)
        openssl("genrsa", "-out", f"{name}-key.pem", "2048")
        openssl("req", "-new", "-sha256", "-subj", f"/CN={name}", "-key", f"{name}-key.pem", "-out", f"{name}.csr")
        openssl(
            "x509", "-req", "-days", "2", "-sha256", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
            "-CAcreateserial", "-out", f"{name}.pem", "-extfile", "extensions",
        )  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def _defaults_of_python_3_13(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = ssl.create_default_context  # noqa: TID251

    def strict(*arguments: ssl.Purpose, **options: str | None) -> ssl.SSLContext:
        context = defaults(*arguments, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost") -> None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)]
    for _ in range(4):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not ends


def _of_the_client(keys: Path) -> ssl.SSLContext:
    return client_tls.context(endpoint.TLS(f"{keys}/ca.pem", f"{keys}/client.pem", f"{keys}/client-key.pem"))


def _of_syslog(keys: Path) -> object:
    files = {"ca_cert": f"{keys}/ca.pem", "cert": f"{keys}/client.pem", "key": f"{keys}/client-key.pem"}
    return _tls_context(Syslog("tcp+tls", "localhost", **files))


async def _of_a_volume_plugin(keys: Path) -> object:
    config = plugins.TLSConfig(False, f"{keys}/ca.pem", f"{keys}/client.pem", f"{keys}/client-key.pem")
    _, connector = plugins._connector(plugins.Address("https://localhost:1", config))
    assert isinstance(connector, aiohttp.TCPConnector)
    await connector.close()
    return connector._ssl


def _of_a_registry(keys: Path) -> ssl.SSLContext:
    folder = keys / "certs.d" / "localhost"
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in (("ca.crt", "ca.pem"), ("client.cert", "client.pem"), ("client.key", "client-key.pem")):
        (folder / name).write_bytes((keys / file).read_bytes())
    return Registries(certificates=str(folder.parent))._load("localhost", False)


@pytest.mark.parametrize("side", [_of_the_client, _of_syslog, _of_a_volume_plugin, _of_a_registry])
async def test_who_connects_accepts_what_docker_accepts(keys: Path, side: Callable[[Path], object]) -> None:
    made = side(keys)
    context = made if isinstance(made, ssl.SSLContext) else await made
    server = server_context(f"{keys}/server.pem", f"{keys}/server-key.pem", clients=f"{keys}/ca.pem")
    shake_hands(context, server)


def test_the_engine_accepts_what_docker_accepts(keys: Path) -> None:
    files = listen.Tls(True, True, f"{keys}/ca.pem", f"{keys}/server.pem", f"{keys}/server-key.pem")
    shake_hands(_of_the_client(keys), listen._context(files))


def test_a_stranger_is_refused(keys: Path) -> None:
    server = server_context(f"{keys}/server.pem", f"{keys}/server-key.pem", clients=f"{keys}/ca.pem")
    with pytest.raises(ssl.SSLError):
        shake_hands(client_context(f"{keys}/ca.pem"), server)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(_of_the_client(keys), server, "elsewhere")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client_context(), server)


def test_a_certificate_that_is_trusted_itself_needs_nobody_to_vouch_for_it(keys: Path) -> None:
    files = f"{keys}/client.pem", f"{keys}/client-key.pem"
    shake_hands(
        client_context(f"{keys}/server.pem", *files), server_context(f"{keys}/server.pem", f"{keys}/server-key.pem")
    )
