"""Registries for the tests: Debian's docker-registry in each of its guises, and a token server for one of them."""

import base64
import contextlib
import hashlib
import http.client
import http.server
import io
import json
import socket
import ssl
import subprocess
import tarfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support import programs
from wherry.common.tls import client_context

USER, PASSWORD = "captain", "s3cret:of the sea"
_BCRYPT = "$2b$04$cSoKGGVEfv9rJhp6ftISauyO2FwoRlacRdsgzW8Xdz2F0N1YU5Jhy"  # of PASSWORD
START_SECONDS = 15

_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}
http:
  addr: "{address}"
  relativeurls: true
{rest}
"""


class Registry:
    """A registry that runs. ``host`` is what names of images begin with."""

    def __init__(
        self, directory: Path, rest: str = "", *, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.directory = directory
        self.address, self.port = address, free_port(address)
        self.host = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        self._tls = tls
        directory.mkdir(parents=True, exist_ok=True)
        config = directory / "config.yml"
        config.write_text(_CONFIG.format(root=directory, address=self.host, rest=rest))
        self._log = (directory / "log").open("wb")
        self._process = subprocess.Popen(
            [_program(), "serve", str(config)], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection((self.address, self.port), 1).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"docker-registry did not start:\n{(self.directory / 'log').read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers in lower case, body)."""
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(self.address, self.port, context=self._tls, timeout=30)
        else:
            connection = http.client.HTTPConnection(self.address, self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read()

    def put_blob(self, repository: str, data: bytes) -> dict[str, Any]:
        """Its descriptor, without a media type."""
        digest = digest_of(data)
        _, headers, _ = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        location = headers["location"]
        separator = "&" if "?" in location else "?"
        status, _, answer = self.request("PUT", f"{location}{separator}digest={urllib.parse.quote(digest)}", data)
        assert status == 201, answer
        return {"digest": digest, "size": len(data)}

    def put_manifest(self, repository: str, tag: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Its descriptor."""
        data = json.dumps(document).encode()
        media_type = document["mediaType"]
        status, _, answer = self.request("PUT", f"/v2/{repository}/manifests/{tag}", data, {"Content-Type": media_type})
        assert status == 201, answer
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def manifest(self, repository: str, tag_or_digest: str) -> Any:
        """A manifest or an index."""
        status, _, body = self.request(
            "GET",
            f"/v2/{repository}/manifests/{tag_or_digest}",
            headers={"Accept": ", ".join((OCI_MANIFEST, OCI_INDEX))},
        )
        assert status == 200, body
        return json.loads(body)

    def digest(self, repository: str, tag: str) -> str:
        accept = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST))
        status, headers, _ = self.request("HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": accept})
        assert status == 200, (repository, tag, status)
        return headers["docker-content-digest"]

    def put_image(
        self,
        repository: str,
        tag: str,
        layers: list[tuple[bytes, str]],
        *,
        plain: list[bytes] | None = None,
        media_type: str = "",
        platform: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """An image of ``layers``, each a blob and its media type; ``plain`` are the tars in them. Its descriptor."""
        platform = platform or {"architecture": "amd64", "os": "linux"}
        diff_ids = [digest_of(tar) for tar in (plain or [blob for blob, _ in layers])]
        document = {
            **platform, "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }  # fmt: skip
        found = self.put_blob(repository, json.dumps(document).encode())
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_type or OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG if media_type in ("", OCI_MANIFEST) else DOCKER_CONFIG, **found},
            "layers": [{"mediaType": kind, **self.put_blob(repository, blob)} for blob, kind in layers],
            **(more or {}),
        }
        return self.put_manifest(repository, tag, manifest) | {"platform": dict(platform)}


OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def installed() -> bool:
    """Whether there are a registry and what makes its certificates."""
    return programs.find("docker-registry") is not None and programs.find("openssl") is not None


def _program() -> str:
    found = programs.find("docker-registry")
    assert found is not None, "no docker-registry: scripts/fixtures.sh fetches one"
    return found


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A layer of these files, which anybody may run."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def with_tls(directory: Path, address: str = "127.0.0.1", *, wants_certificates: bool = False) -> tuple[Registry, Path]:
    """A registry with TLS, and the authority that its certificate is from, and those of its clients are to be."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = make_certificates(directory, address)
    clients = f", clientcas: [{authority}]" if wants_certificates else ""
    rest = f"  tls: {{certificate: {directory}/server.pem, key: {directory}/server.key{clients}}}"
    return Registry(directory, rest, address=address, tls=client_context(str(authority))), authority


def with_password(directory: Path) -> Registry:
    """A registry that wants USER and PASSWORD."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
    return Registry(directory, f"auth: {{htpasswd: {{realm: harbour, path: {directory}/htpasswd}}}}")


def make_certificates(directory: Path, address: str) -> Path:
    """server.pem and server.key for ``address``, signed by ca.pem, whose path this gives."""

    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
        "-subj", "/CN=wherry tests")  # fmt: skip
    run(
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={address}"
    )
    (directory / "extensions").write_text(f"subjectAltName=IP:{address}\n")
    run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
        "-out", "server.pem", "-extfile", "extensions")  # fmt: skip
    return directory / "ca.pem"


class TokenServer:
    """A token server for a registry: the specification's GET with a password, and OAuth's POST with a refresh token.

    ``requests`` are the queries and forms that it was asked; ``private`` are repositories that nobody may have.
    """

    service = "wherry-tests"
    refresh_token = "the-identity-token"

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.requests: list[dict[str, list[str]]] = []
        self.anonymous = False
        self.expires_in = 300
        make_certificates(directory, "127.0.0.1")
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.realm = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def registry(self, directory: Path) -> Registry:
        rest = (
            f"auth: {{token: {{realm: '{self.realm}', service: {self.service}, issuer: wherry, "
            f"rootcertbundle: {self.directory}/server.pem}}}}"
        )
        return Registry(directory, rest)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        tokens = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                tokens.requests.append(query)
                self._answer(query.get("scope", []), self._knows_password(), "offline_token" in query)

            def do_POST(self) -> None:
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                tokens.requests.append(form)
                allowed = form.get("refresh_token") == [tokens.refresh_token]
                self._answer(" ".join(form.get("scope", [])).split(), allowed, False)

            def _knows_password(self) -> bool:
                given = self.headers.get("Authorization")
                expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                return tokens.anonymous if given is None else given == f"Basic {expected}"

            def _answer(self, scopes: list[str], allowed: bool, offline: bool) -> None:
                if allowed:
                    status, answer = 200, {"token": tokens.sign(scopes), "expires_in": tokens.expires_in}
                    if offline:
                        answer["refresh_token"] = tokens.refresh_token
                else:
                    status, answer = 401, {"details": "incorrect username or password"}
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                return

        return Handler

    def sign(self, scopes: list[str]) -> str:
        """A JSON web token that grants them all."""
        now = int(time.time())
        granted = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted.append({"type": kind, "name": name, "actions": actions.split(",")})
        certificate = (self.directory / "server.pem").read_text()
        der = "".join(certificate.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0].split())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        claims = {
            "iss": "wherry", "sub": USER, "aud": self.service, "exp": now + self.expires_in, "nbf": now - 10,
            "iat": now - 10, "jti": str(time.monotonic_ns()), "access": granted,
        }  # fmt: skip
        signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", f"{self.directory}/server.key"],
            input=signed.encode(), capture_output=True, check=True,
        ).stdout  # fmt: skip
        return f"{signed}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@contextlib.contextmanager
def running(registry: Registry) -> Iterator[Registry]:
    try:
        yield registry
    finally:
        registry.stop()
