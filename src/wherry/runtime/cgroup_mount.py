"""/sys/fs/cgroup in a container: its own cgroup, as a view of each hierarchy that the host has."""

import os

from wherry.linux import mounts, paths
from wherry.linux.cgroups import Cgroup, Hierarchies
from wherry.linux.mounts import Mount

_ATTRIBUTES = mounts.ATTR_NOSUID | mounts.ATTR_NODEV | mounts.ATTR_NOEXEC


def mount_cgroups(
    root: int, mount: Mount, hierarchies: Hierarchies, cgroup: Cgroup | None, *, own_namespace: bool
) -> None:
    """Mounts what the cgroup may see of itself: with v2, the one hierarchy; with v1, a directory a controller.

    ``own_namespace``: the process has left the host's cgroup namespace, so that its own cgroup is the top it can see.
    """
    options = mounts.parse_options(mount.options)
    attributes = options.set | _ATTRIBUTES
    target = paths.make_directories(root, mount.target)
    if not hierarchies.legacy:
        if cgroup is None or not own_namespace:
            source = hierarchies.unified.directory if hierarchies.unified else ""
        else:
            source = cgroup.unified or ""
        _bind(source, target, attributes, mount.target)
        os.close(target)
        return
    # Writable until the directories in it are made.
    holder = mounts.make("tmpfs", "tmpfs", ("nosuid", "nodev", "noexec", "mode=755", "size=65536k"))
    mounts.attach(holder, target, mount.target)
    os.close(target)
    for hierarchy in hierarchies.legacy:
        name = ",".join(controller.removeprefix("name=") for controller in hierarchy.controllers)
        source = hierarchy.directory + (cgroup.path if cgroup else "")
        _bind_below(holder, name, source, attributes)
        if len(hierarchy.controllers) > 1:
            for controller in hierarchy.controllers:
                os.symlink(name, controller, dir_fd=holder)
    if hierarchies.unified is not None:
        source = hierarchies.unified.directory + (cgroup.path if cgroup else "")
        _bind_below(holder, "unified", source, attributes)
    if options.set & mounts.ATTR_RDONLY:
        mounts.change(holder, set=mounts.ATTR_RDONLY)
    os.close(holder)


def _bind_below(directory: int, name: str, source: str, attributes: int) -> None:
    os.mkdir(name, 0o755, dir_fd=directory)
    target = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    _bind(source, target, attributes, name)
    os.close(target)


def _bind(source: str, target: int, attributes: int, path: str) -> None:
    detached = mounts.clone(source)
    mounts.change(detached, set=attributes)
    mounts.attach(detached, target, path)
    os.close(detached)
