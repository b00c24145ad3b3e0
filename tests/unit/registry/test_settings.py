"""Addresses, proxies, platforms, patience: what is decided before anything is sent."""

from pathlib import Path

import pytest

from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.engine import platforms
from wherry.model.image import Descriptor, Platform
from wherry.registry import http
from wherry.registry.endpoints import HUB, Endpoint, Registries
from wherry.registry.errors import of_answer
from wherry.registry.http import proxy_for, shown_proxies

PROXIES = {
    "HTTP_PROXY": "proxy.example:3128",
    "https_proxy": "http://user:secret@proxy.example:3129",
    "NO_PROXY": "10.0.0.0/8, .inner.example,host.example:8443,192.0.2.1,[2001:db8::1]:80",
}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.example/v2/", "http://proxy.example:3128"),
        ("https://a.example/v2/", "http://user:secret@proxy.example:3129"),
        ("http://localhost:5000/", None),
        ("http://127.0.0.1:5000/", None),
        ("http://[::1]:5000/", None),
        ("http://10.1.2.3/", None),
        ("http://192.0.2.1/", None),
        ("http://192.0.2.2/", "http://proxy.example:3128"),
        ("http://[2001:db8::1]/", None),
        ("http://deep.inner.example/", None),
        ("http://inner.example/", "http://proxy.example:3128"),
        ("https://host.example:8443/", None),
        ("https://sub.host.example:8443/", None),
        ("https://host.example/", "http://user:secret@proxy.example:3129"),
    ],
)
def test_proxies(url: str, expected: str | None) -> None:
    assert proxy_for(url, PROXIES) == expected
    assert proxy_for(url, {**PROXIES, "NO_PROXY": "*"}) is None
    assert proxy_for(url, {}) is None


def test_proxies_without_their_passwords() -> None:
    assert shown_proxies(PROXIES) == (
        "proxy.example:3128", "http://xxxxx:xxxxx@proxy.example:3129", PROXIES["NO_PROXY"]
    )  # fmt: skip
    assert shown_proxies({}) == ("", "", "")


async def test_one_more_insecure_registry() -> None:
    settings = Registries(["plain.example"])
    assert len(await settings.also_insecure("192.0.2.1:5000").endpoints("192.0.2.1:5000")) == 2
    assert len(await settings.also_insecure("192.0.2.1:5000").endpoints("plain.example")) == 2
    assert len(await settings.endpoints("192.0.2.1:5000")) == 1


async def test_endpoints() -> None:
    found = Registries(["plain.example:5000", "198.51.100.0/24"], ["https://mirror.example/"])
    assert await found.endpoints("docker.io", mirrors=True) == [Endpoint("https://mirror.example", True), Endpoint(HUB)]
    assert await found.endpoints("docker.io") == [Endpoint(HUB)]
    assert await found.endpoints("198.51.101.1") == [Endpoint("https://198.51.101.1")]
    for host in ("127.0.0.1:5000", "[::1]:5000", "plain.example:5000", "198.51.100.7", "localhost:5000"):
        secure, plain = await found.endpoints(host)
        assert (secure.base, plain.base) == (f"https://{host}", f"http://{host}")
        found.note(plain)
        assert await found.endpoints(host) == [plain, secure]


@pytest.mark.parametrize("mirror", ["mirror.example", "ftp://x", "https://x/path", "https://u:p@x", "https://x?q"])
def test_what_is_no_mirror(mirror: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid mirror"):
        Registries(mirrors=[mirror])


async def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "host.example:5000"
    folder.mkdir()
    found = Registries(certificates=str(tmp_path))
    (folder / "ca.crt").write_text("nothing")
    with pytest.raises(EngineError, match=r"ca\.crt"):
        await found.tls("host.example:5000")
    (folder / "ca.crt").unlink()
    (folder / "client.cert").write_text("nothing")
    with pytest.raises(EngineError, match=r"missing key client\.key for client certificate client\.cert"):
        await found.tls("host.example:5000")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/arm64/v8", "linux/arm64"), ("arm64", "linux/arm64"), ("aarch64", "linux/arm64"),
        ("linux/i386", "linux/386"), ("armhf", "linux/arm/v7"), ("linux/arm/v6", "linux/arm/v6"),
        ("linux/amd64/v1", "linux/amd64"), ("windows/amd64", "windows/amd64"), ("LINUX/AMD64", "linux/amd64"),
    ],
)  # fmt: skip
def test_platforms(text: str, expected: str) -> None:
    assert platforms.name(platforms.parse(text)) == expected


@pytest.mark.parametrize("text", ["linux/", "/", "a/b/c/d", "nonsense", "linux/amd 64"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(InvalidParameter):
        platforms.parse(text)


def _index(*names: str) -> list[Descriptor]:
    found = []
    for name in names:
        os_name, architecture, variant = (*name.split("/"), "")[:3]
        found.append(Descriptor("m", name, 1, platform=Platform(architecture, os_name, variant)))
    return found


@pytest.mark.parametrize(
    ("wanted", "offered", "expected"),
    [
        ("linux/amd64", ["linux/386", "linux/amd64", "windows/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/386"], "linux/386"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64/v8"], "linux/arm/v6"),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/386", ["linux/amd64", "linux/386"], "linux/386"),
    ],
)
def test_choice(wanted: str, offered: list[str], expected: str) -> None:
    assert platforms.choose(_index("unknown/unknown", *offered), platforms.parse(wanted)).digest == expected


def test_no_choice() -> None:
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x in the manifest list entries"):
        platforms.choose(_index("linux/amd64"), platforms.parse("linux/s390x"))


def test_patience() -> None:
    delays = [http.delay(failures) for failures in range(1, http.ATTEMPTS)]
    assert all(0.1 < delay < 10 for delay in delays if delay is not None)
    assert None not in delays
    assert http.delay(http.ATTEMPTS) is None
    assert http.delay(1, 5) == 5
    assert http.delay(1, 3600) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, None), ("", None), ("3", 3.0), ("soon", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    assert http.retry_after(header) == expected


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"not known"}]}', "name unknown: not known"),
        (401, b"", "unauthorized: authentication required"),
        (403, b"<html>", "denied: requested access to the resource is denied"),
        (502, b"", "received unexpected HTTP status: 502 Bad Gateway"),
        (999, b"[" * 100_000, "received unexpected HTTP status: 999"),
        (400, b'{"errors":[{"code":"A","message":"b"},{"code":"C_D"}]}', "errors:\na: b\nc d: c d\n"),
    ],
)
def test_errors(status: int, body: bytes, text: str) -> None:
    assert of_answer(status, body).message == text
