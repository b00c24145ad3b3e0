"""Addresses that a registry sends: they may be none at all, and may hold secrets."""

from urllib.parse import urljoin, urlsplit

from wherry.registry.errors import RegistryError, printable


def shown(url: str) -> str:
    """What people may see of it: without query, name and password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "what is no address"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def join(base: str, location: str) -> str:
    """Where ``location`` leads from ``base``. Raises RegistryError when that is nowhere on the web."""
    try:
        found = urljoin(base, location)
        parts = urlsplit(found)
        named = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        named = False
    if not named or parts.scheme not in ("http", "https"):
        raise RegistryError(f"{shown(base)}: leads to {shown(location)[:200]}: not an address of the web")
    return found
