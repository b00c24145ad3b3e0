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
    except ValueError:
        found = ""
    if not is_of_the_web(found):
        raise RegistryError(f"{shown(base)}: leads to {shown(location)[:200]}: not an address of the web")
    return found


def is_of_the_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port or 1) > 0 and parts.scheme in ("http", "https")
    except ValueError:
        return False
