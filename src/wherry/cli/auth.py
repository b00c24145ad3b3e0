"""Credentials for a registry, from docker's configuration: in it, or with a credential helper that it names."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The key under which docker keeps the credentials of its own registry.
HUB_KEY = "https://index.docker.io/v1/"


def header(config: dict[str, Any], domain: str) -> str:
    """The X-Registry-Auth header for the registry at `domain`, "" when nothing is known of it."""
    key = HUB_KEY if domain in ("docker.io", "index.docker.io") else domain
    found = _find(config, key)
    if not found:
        return ""
    from base64 import urlsafe_b64encode

    from wherry.client.lean import dumps

    return urlsafe_b64encode(dumps(found)).decode()


def _find(config: dict[str, Any], key: str) -> dict[str, str]:
    helper = (config.get("credHelpers") or {}).get(key) or config.get("credsStore")
    if helper:
        return _ask_helper(str(helper), key)
    auths: dict[str, Any] = config.get("auths") or {}
    entry = auths.get(key)
    if entry is None:
        # Older versions wrote the address with its scheme and path.
        entry = next((value for name, value in auths.items() if _host(name) == _host(key)), None)
    if not isinstance(entry, dict):
        return {}
    found = {"serveraddress": key}
    if entry.get("auth"):
        from base64 import b64decode

        name, _, password = b64decode(entry["auth"]).decode("utf-8", "replace").partition(":")
        found |= {"username": name, "password": password.strip("\0")}
    if entry.get("identitytoken"):
        found["identitytoken"] = entry["identitytoken"]
    return found


def _host(address: str) -> str:
    return address.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _ask_helper(helper: str, key: str) -> dict[str, str]:
    """docker-credential-NAME get: the address on its input, the answer as JSON on its output."""
    import subprocess

    from wherry.client.lean import loads

    try:
        answer = subprocess.run(
            [f"docker-credential-{helper}", "get"], input=key.encode(), capture_output=True, check=True
        )
        found = loads(answer.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return {}  # it has none for this registry, which may well be public
    name, secret = str(found.get("Username", "")), str(found.get("Secret", ""))
    if name == "<token>":
        return {"serveraddress": key, "identitytoken": secret}
    return {"serveraddress": key, "username": name, "password": secret}
