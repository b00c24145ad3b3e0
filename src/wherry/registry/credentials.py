"""A user's log-in at a registry, as clients send it along with a request."""

import base64
import binascii

import msgspec


class Credentials(msgspec.Struct, frozen=True):
    """The API's AuthConfig. An ``identitytoken`` or ``registrytoken`` goes before name and password."""

    username: str = ""
    password: str = ""
    auth: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, serveraddress={self.serveraddress!r})"

    def __bool__(self) -> bool:
        return bool(self.username or self.identitytoken or self.registrytoken)


NOBODY = Credentials()


def from_header(header: str) -> Credentials:
    """Of X-Registry-Auth: base64 of JSON. What cannot be read is nobody's, as in Docker."""
    if not header:
        return NOBODY
    text = header.translate(str.maketrans("+/", "-_")).rstrip("=")
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return complete(msgspec.json.decode(decoded, type=Credentials))
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        return NOBODY


def from_config_header(header: str) -> dict[str, Credentials]:
    """Of X-Registry-Config, which builds come with: log-ins by the registry's domain, likewise."""
    text = header.translate(str.maketrans("+/", "-_")).rstrip("=")
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        found = msgspec.json.decode(decoded, type=dict[str, Credentials]) if decoded else {}
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        return {}
    return {_domain(server): complete(given) for server, given in found.items()}


def _domain(server: str) -> str:
    """ "https://index.docker.io/v1/" is docker.io; of others it is the host and the port."""
    host = server.partition("://")[2] or server
    host = host.partition("/")[0]
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host


def complete(given: Credentials) -> Credentials:
    """With name and password where ``auth`` holds both."""
    if not given.auth or given.username:
        return given
    try:
        name, _, password = base64.b64decode(given.auth).decode().partition(":")
    except (binascii.Error, ValueError):
        return given
    return msgspec.structs.replace(given, username=name, password=password.strip("\0"))


def basic(given: Credentials) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{given.username}:{given.password}".encode()).decode()
