"""Volume plug-ins: drivers in processes of their own, by Docker's plug-in protocol.

A plug-in is found by its name: a socket ``/run/docker/plugins/<name>.sock``, or a file ``<name>.spec`` that holds its
address, in the folders where Docker looks. It is asked by POST with a JSON body, and answers JSON, in which ``Err``
says what went wrong.
"""

import asyncio
import json
import os
from typing import Any

from wherry.model.errors import EngineError, InvalidParameter, NotFound

SOCKET_FOLDER = "/run/docker/plugins"
_SPEC_FOLDERS = ("/etc/docker/plugins", "/usr/lib/docker/plugins")
_TIMEOUT = 120  # seconds that a call may take: a driver may have to reach a storage system first
_LONGEST_ANSWER = 16 << 20


class VolumePlugin:
    """One driver. Every method raises EngineError with the plug-in's own words."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self._address = address
        self._active = False

    async def create(self, volume: str, options: dict[str, str]) -> None:
        await self._call("Create", Name=volume, Opts=options)

    async def remove(self, volume: str) -> None:
        await self._call("Remove", Name=volume)

    async def mount(self, volume: str, container_id: str) -> str:
        """Makes the volume ready for a container; the folder of the host where its files are."""
        return str((await self._call("Mount", Name=volume, ID=container_id)).get("Mountpoint", ""))

    async def unmount(self, volume: str, container_id: str) -> None:
        await self._call("Unmount", Name=volume, ID=container_id)

    async def get(self, volume: str) -> dict[str, Any]:
        """What the plug-in says of a volume: Name, and maybe Mountpoint and Status."""
        found = (await self._call("Get", Name=volume)).get("Volume")
        return found if isinstance(found, dict) else {}

    async def _call(self, method: str, **body: Any) -> dict[str, Any]:
        if not self._active:
            answer = await self._post("/Plugin.Activate", {})
            if "VolumeDriver" not in answer.get("Implements", ()):
                raise InvalidParameter(f'plugin "{self.name}" does not implement the requested interface')
            self._active = True
        answer = await self._post(f"/VolumeDriver.{method}", body)
        if answer.get("Err"):
            raise EngineError(f"VolumeDriver.{method}: {answer['Err']}")
        return answer

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_TIMEOUT):
                status, answer = await self._exchange(path, json.dumps(body).encode())
        except TimeoutError:
            raise EngineError(f'plugin "{self.name}" did not answer {path} within {_TIMEOUT} s') from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise EngineError(f'plugin "{self.name}" cannot be reached at {self._address}: {reason}') from None
        try:
            found = json.loads(answer or b"{}")
        except ValueError:
            found = {"Err": answer[:200].decode(errors="replace")}
        if not isinstance(found, dict):
            found = {}
        if status != 200 and not found.get("Err"):
            found["Err"] = f"HTTP status {status}"
        if path == "/Plugin.Activate" and found.get("Err"):
            raise EngineError(f'plugin "{self.name}": {found["Err"]}')
        return found

    async def _exchange(self, path: str, body: bytes) -> tuple[int, bytes]:
        """One request on a connection of its own: an answer then ends where the connection does."""
        if self._address.startswith("unix://"):
            reader, writer = await asyncio.open_unix_connection(self._address.removeprefix("unix://"))
        else:
            host, _, port = self._address.removeprefix("tcp://").rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
        try:
            head = (
                f"POST {path} HTTP/1.0\r\nHost: plugin\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
            answer = await reader.read(_LONGEST_ANSWER)
            while len(answer) < _LONGEST_ANSWER and (more := await reader.read(_LONGEST_ANSWER)):
                answer += more
        finally:
            writer.close()
        head_lines, _, content = answer.partition(b"\r\n\r\n")
        words = head_lines.split(None, 2)
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, content


class VolumePlugins:
    """The drivers that were asked for so far, by name."""

    def __init__(self) -> None:
        self._found: dict[str, VolumePlugin] = {}

    def get(self, name: str) -> VolumePlugin:
        """Raises NotFound in Docker's words."""
        address = _address(name)
        if address is None:
            self._found.pop(name, None)
            raise NotFound(f'error looking up volume plugin {name}: plugin "{name}" not found')
        if name not in self._found:
            self._found[name] = VolumePlugin(name, address)
        return self._found[name]


def _address(name: str) -> str | None:
    if "/" in name or name.startswith("."):
        return None
    for socket in (f"{SOCKET_FOLDER}/{name}.sock", f"{SOCKET_FOLDER}/{name}/{name}.sock"):
        if os.path.exists(socket):
            return f"unix://{socket}"
    for folder in _SPEC_FOLDERS:
        for path in (f"{folder}/{name}.spec", f"{folder}/{name}/{name}.spec"):
            try:
                with open(path, encoding="utf-8") as file:
                    return file.read().strip()
            except OSError:
                continue
    return None
