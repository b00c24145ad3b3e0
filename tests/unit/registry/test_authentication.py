"""What registries ask for, and what goes where. No secret is shown."""

from collections.abc import Mapping

import pytest

from wherry.registry.auth import NOBODY, Authorizer, Challenge, Credentials, complete, from_header, parse_challenges
from wherry.registry.errors import RegistryError, Unauthorized

HARBOUR = Credentials(username="captain", password="s3cret")
BEARER = 'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:x:pull"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", []),
        ("Basic", [Challenge("basic", {})]),
        ('Basic realm="a, b"', [Challenge("basic", {"realm": "a, b"})]),
        ('Basic realm="a \\"b\\""', [Challenge("basic", {"realm": 'a "b"'})]),
        ("Bearer realm=x , service = y", [Challenge("bearer", {"realm": "x", "service": "y"})]),
        (
            f'{BEARER}, Basic realm="r"',
            [
                Challenge(
                    "bearer",
                    {
                        "realm": "https://auth.example/token",
                        "service": "registry.example",
                        "scope": "repository:x:pull",
                    },
                ),
                Challenge("basic", {"realm": "r"}),
            ],
        ),
        ('",,,="', []),
    ],
)
def test_challenges(header: str, expected: list[Challenge]) -> None:
    assert parse_challenges(header) == expected


class Server:
    """Answers token requests, and keeps them."""

    def __init__(self, status: int = 200, body: bytes = b'{"token": "t", "expires_in": 300}') -> None:
        self.status, self.body = status, body
        self.asked: list[tuple[str, str, dict[str, str], bytes | None]] = []

    async def send(self, method: str, url: str, headers: Mapping[str, str], data: bytes | None) -> tuple[int, bytes]:
        self.asked.append((method, url, dict(headers), data))
        return self.status, self.body


def authorizer(
    server: Server, credentials: Credentials = HARBOUR, base: str = "https://registry.example"
) -> Authorizer:
    async def never(host: str) -> bool:
        return False

    return Authorizer(base, credentials, server.send, never)


SCOPES = frozenset(("repository:x:pull",))


async def test_a_token_is_fetched_once() -> None:
    server = Server()
    found = authorizer(server)
    assert await found.header(SCOPES) is None
    assert await found.challenged(BEARER, SCOPES) == "Bearer t"
    assert await found.header(SCOPES) == "Bearer t"
    [(method, url, headers, _)] = server.asked
    assert method == "GET"
    assert url == ("https://auth.example/token?service=registry.example&scope=repository%3Ax%3Apull&account=captain")
    assert headers["Authorization"].startswith("Basic ")


async def test_an_identity_token_is_exchanged() -> None:
    server = Server(body=b'{"access_token": "a"}')
    found = authorizer(server, Credentials(identitytoken="kept"))
    assert await found.challenged(BEARER, SCOPES) == "Bearer a"
    [(method, url, _, data)] = server.asked
    assert (method, url) == ("POST", "https://auth.example/token")
    assert data is not None
    assert b"refresh_token=kept" in data


async def test_a_password_does_not_go_where_there_is_no_tls() -> None:
    server = Server()
    with pytest.raises(RegistryError, match="without TLS") as raised:
        await authorizer(server).challenged(BEARER.replace("https:", "http:"), SCOPES)
    assert server.asked == []
    assert "s3cret" not in str(raised.value)


async def test_nobody_has_no_password() -> None:
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        await authorizer(Server(), NOBODY).challenged('Basic realm="r"', SCOPES)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token": ""}', b'{"token": "a\\r\\nX: y"}', b"[" * 100_000])
async def test_no_token(body: bytes) -> None:
    with pytest.raises(RegistryError):
        await authorizer(Server(body=body)).challenged(BEARER, SCOPES)


async def test_refused() -> None:
    server = Server(401, b'{"details": "incorrect username or password"}')
    with pytest.raises(Unauthorized, match="unauthorized: incorrect username or password"):
        await authorizer(server).challenged(BEARER, SCOPES)


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials("me", "s3cret", "YTpi", "host", "identity", "registry"))
    assert shown == "Credentials(username='me', serveraddress='host')"


@pytest.mark.parametrize("header", ["", "!", "e30", "bm90IGpzb24=", "eyJ1c2VybmFtZSI6IDF9"])
def test_a_header_of_nobody(header: str) -> None:
    assert not from_header(header)


def test_name_and_password_in_one() -> None:
    assert complete(Credentials(auth="bWU6cGFzczp3b3Jk")) == Credentials("me", "pass:word", "bWU6cGFzczp3b3Jk")
