"""Log-ins at registries, where docker keeps them: in its configuration, or with a credential helper that it names.

A helper is a program, `docker-credential-NAME`, that keeps secrets in a key ring of the system.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Credentials = dict[str, str]

# The key under which docker keeps the credentials of its own registry.
HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_TOKEN_NAME = "<token>"  # the name that stands for an identity token with a helper


class HelperError(Exception):
    """A credential helper could not do what it was asked for. The text has no secret in it."""


def header(config: dict[str, Any], domain: str) -> str:
    """The X-Registry-Auth header for the registry at `domain`, "" when nothing is known of it."""
    return _encoded(stored(config, key_of(domain)))


def header_of_all(config: dict[str, Any]) -> str:
    """The X-Registry-Config header: every log-in that is kept in the configuration, "" when there is none."""
    servers = {*(config.get("auths") or {}), *(config.get("credHelpers") or {})}
    found = {key_of(server): stored(config, key_of(server)) for server in servers}
    return _encoded({server: each for server, each in found.items() if each})


def _encoded(value: dict[str, Any]) -> str:
    if not value:
        return ""
    from base64 import urlsafe_b64encode

    from wherry.client.lean import dumps

    return urlsafe_b64encode(dumps(value)).decode()


def key_of(server: str) -> str:
    """What the log-in at a server is kept under: its name and port, without scheme and path."""
    return HUB_KEY if not server or _host(server) in _HUB_HOSTS else _host(server)


def stored(config: dict[str, Any], key: str) -> Credentials:
    """The log-in that is kept for a registry; {} when there is none."""
    helper = _helper(config, key)
    if helper:
        return _ask_helper(helper, key)
    auths: dict[str, Any] = config.get("auths") or {}
    entry = auths.get(key)
    if entry is None:
        # Older versions wrote the address with its scheme and path.
        entry = next((value for name, value in auths.items() if _host(name) == _host(key)), None)
    if not isinstance(entry, dict):
        return {}
    found: Credentials = {}
    if entry.get("auth"):
        name, password = _decode(str(entry["auth"]))
        found |= {"username": name, "password": password}
    for field in ("identitytoken", "registrytoken"):
        if entry.get(field):
            found[field] = str(entry[field])
    return {"serveraddress": key} | found if found else {}


def store(directory: str, config: dict[str, Any], credentials: Credentials) -> str:
    """Keeps a log-in. The path of the file that it stands in unencrypted, "" when a helper has it.

    Raises OSError, HelperError.
    """
    key = credentials["serveraddress"]
    helper = _helper(config, key)
    entry: dict[str, str] = {}
    if helper:
        token = credentials.get("identitytoken", "")
        secret = {
            "ServerURL": key,
            "Username": _TOKEN_NAME if token else credentials["username"],
            "Secret": token or credentials["password"],
        }
        _call_helper(helper, "store", secret)
    else:
        entry["auth"] = _encode(credentials["username"], credentials.get("password", ""))
        if credentials.get("identitytoken"):
            entry["identitytoken"] = credentials["identitytoken"]
    path = _change(directory, key, entry)
    return "" if helper else path


def forget(directory: str, config: dict[str, Any], key: str) -> None:
    """Removes a log-in. Raises OSError, HelperError."""
    helper = _helper(config, key)
    if helper:
        _call_helper(helper, "erase", key)
    _change(directory, key, None)


def _helper(config: dict[str, Any], key: str) -> str:
    return str((config.get("credHelpers") or {}).get(key) or config.get("credsStore") or "")


def _host(address: str) -> str:
    return address.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _decode(text: str) -> tuple[str, str]:
    from base64 import b64decode

    try:
        name, _, password = b64decode(text).decode("utf-8", "replace").partition(":")
    except ValueError:
        return "", ""
    return name, password.strip("\0")


def _encode(name: str, password: str) -> str:
    from base64 import b64encode

    return b64encode(f"{name}:{password}".encode()).decode()


def _change(directory: str, key: str, entry: dict[str, str] | None) -> str:
    """Keeps an entry of config.json, or removes it; the file's path."""
    from wherry.cli import config_file

    def alter(config: dict[str, Any]) -> None:
        auths = config.setdefault("auths", {})
        if entry is not None:
            auths[key] = entry
            return
        for name in [name for name in auths if name == key or _host(name) == _host(key)]:
            del auths[name]

    return config_file.change(directory, alter)


def _ask_helper(helper: str, key: str) -> Credentials:
    """`get`: the address on its input, the answer as JSON on its output."""
    from wherry.client.lean import loads

    try:
        found = loads(_call_helper(helper, "get", key))
    except (HelperError, ValueError):
        return {}  # it has none for this registry, which may well be public
    name, secret = str(found.get("Username", "")), str(found.get("Secret", ""))
    if name == _TOKEN_NAME:
        return {"serveraddress": key, "identitytoken": secret}
    return {"serveraddress": key, "username": name, "password": secret}


def _call_helper(helper: str, verb: str, given: str | dict[str, str]) -> bytes:
    """What a helper answers. Raises HelperError."""
    import subprocess

    from wherry.client.lean import dumps

    program = f"docker-credential-{helper}"
    data = given.encode() if isinstance(given, str) else dumps(given)
    try:
        return subprocess.run([program, verb], input=data, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise HelperError(f'exec: "{program}": executable file not found in $PATH') from None
    except OSError as error:
        raise HelperError(f'exec: "{program}": {(error.strerror or "").lower()}') from None
    except subprocess.CalledProcessError as error:
        said = (error.stdout or error.stderr or b"").decode("utf-8", "replace").strip()[:200]
        raise HelperError(f"{program} {verb}: {said or f'exit status {error.returncode}'}") from None
