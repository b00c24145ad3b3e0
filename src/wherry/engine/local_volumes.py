"""The driver "local": folders of the data root.

One with options (a tmpfs, a share of NFS, a folder of the host) is mounted upon its folder, on the host, when the first
container that has it starts, and unmounted when the last one has ended. So all of them see the same files.
"""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from wherry.linux import host_mounts
from wherry.linux.errors import SyscallError
from wherry.model.errors import EngineError, InvalidParameter
from wherry.model.volume import Volume
from wherry.storage.volumes import Volumes

_NETWORK_TYPES = ("nfs", "nfs4", "cifs", "smb3")


class LocalVolumes:
    """Whoever calls holds the volume's lock. A holder is a container, or what else uses a volume for a while."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes
        self._holders: dict[str, set[str]] = {}

    async def mount(self, name: str, holder: str) -> str:
        """Makes the volume ready; the folder of the host where its files are. Raises EngineError."""
        volume, path = self._volumes.get(name), self._volumes.path(name)
        if volume.options and "device" in volume.options:
            if not host_mounts.is_mounted(path):
                await _in_own_thread(_mount, volume, path)
            self.hold(name, holder)
        return path

    def hold(self, name: str, holder: str) -> None:
        """Notes a user of what is mounted."""
        self._holders.setdefault(name, set()).add(holder)

    async def unmount(self, name: str, holder: str) -> None:
        holders = self._holders.get(name, set())
        holders.discard(holder)
        if not holders:
            self._holders.pop(name, None)
            await self.take_away(name)

    async def take_away(self, name: str) -> None:
        """Unmounts a volume with options that nobody uses: what an engine that was killed may have left mounted."""
        volume, path = self._volumes.get(name), self._volumes.path(name)
        if volume.options and "device" in volume.options and name not in self._holders:
            await asyncio.to_thread(host_mounts.take_away, path)


async def _in_own_thread(work: Callable[..., None], *arguments: Any) -> None:
    """In a thread that nobody waits for at the engine's end: the server of a share may not answer for a long time."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    errors: list[Exception] = []

    def run() -> None:
        try:
            work(*arguments)
        except Exception as error:
            errors.append(error)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="mount", daemon=True).start()
    await done.wait()
    if errors:
        raise errors[0]


def _mount(volume: Volume, path: str) -> None:
    options = volume.options or {}
    type, device, given = options.get("type", ""), options["device"], options.get("o", "")
    try:
        if type in _NETWORK_TYPES:
            given = with_address(type, device, given)
        host_mounts.mount(type, device, path, given)
    except SyscallError as error:
        # Without what it was to do: the options may have a password among them.
        shown = error.path.partition(", data:")[0]
        reason = os.strerror(error.errno or 0).lower()
        raise InvalidParameter(
            f"error while mounting volume '{path}': failed to mount local volume: mount {shown}: {reason}"
        ) from None
    except OSError as error:
        raise EngineError(
            f"error while mounting volume '{path}': error resolving passed in network volume address: {error.strerror}"
        ) from None


def with_address(type: str, device: str, options: str) -> str:
    """The options with the server's address as a number: the kernel knows no names."""
    given = options.split(",")
    host = next((option.removeprefix("addr=") for option in given if option.startswith("addr=")), "")
    if not host and type in ("cifs", "smb3") and not any(option.startswith("ip=") for option in given):
        host = device.replace("\\", "/").removeprefix("//").partition("/")[0]
    if not host:
        return options
    address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    kept = [option for option in given if option and not option.startswith("addr=")]
    return ",".join([*kept, f"addr={address}"])
