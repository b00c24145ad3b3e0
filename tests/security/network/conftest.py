"""Every module here has a host's network of its own: other engines on this machine, and their rules, are elsewhere."""

from tests.support.apart import apart, busybox, engine, host, world

__all__ = ["apart", "busybox", "engine", "host", "world"]
