"""Mounts: what to mount, and the calls that do it on descriptors instead of paths."""

import msgspec


class Mount(msgspec.Struct, frozen=True, omit_defaults=True):
    """One mount, in the words of mount(8) and of the OCI runtime spec.

    ``type`` is a file system ("overlay", "tmpfs", "proc", …) or "bind". ``target`` is absolute in the container's view,
    "" for the root itself. ``options`` are mount(8)'s: flags ("ro", "nosuid"), propagation ("rslave") and file-system
    data ("size=64m", "lowerdir=…"). ``create`` makes a missing target: "dir", "file", or "" to fail.
    """

    type: str
    source: str
    target: str = ""
    options: tuple[str, ...] = ()
    create: str = "dir"
