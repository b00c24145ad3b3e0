"""Plug-ins: processes of their own that the engine asks, by Docker's plug-in protocol.

A plug-in is found by its name: a socket ``/run/docker/plugins/<name>.sock``, or a file ``<name>.spec`` or
``<name>.json`` that holds its address, in the folders where Docker looks. It is asked by POST with a JSON body, and
answers JSON, in which ``Err`` says what went wrong.
"""

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

import msgspec

from wherry.common.errors import EngineError, InvalidParameter, NotFound
from wherry.common.tls import client_context

if TYPE_CHECKING:
    import aiohttp  # 3 MB of memory, which only those who use a plug-in need

SOCKET_FOLDER = "/run/docker/plugins"
_SPEC_FOLDERS = ("/etc/docker/plugins", "/usr/lib/docker/plugins")
_ENDINGS = (".sock", ".spec", ".json")
SHORT = 60  # seconds that a call may take
_TYPE = "application/vnd.docker.plugins.v1.2+json"


class TLSConfig(msgspec.Struct):
    """Paths of files."""

    insecure_skip_verify: bool = msgspec.field(default=False, name="InsecureSkipVerify")
    ca_file: str = msgspec.field(default="", name="CAFile")
    cert_file: str = msgspec.field(default="", name="CertFile")
    key_file: str = msgspec.field(default="", name="KeyFile")


class Address(msgspec.Struct, frozen=True):
    """Where a plug-in is: "unix:///path", "tcp://host:port", or "https://host:port" with ``tls``."""

    url: str = msgspec.field(name="Addr")
    tls: TLSConfig | None = msgspec.field(default=None, name="TLSConfig")


class Plugin:
    """One that implements ``interface``. Every method raises EngineError, PluginError with the plug-in's own words."""

    def __init__(self, name: str, address: Address, interface: str) -> None:
        self.name = name
        self.address = address
        self._interface = interface
        self._active = False

    async def call(self, method: str, body: dict[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """``method`` is "VolumeDriver.Create", for example."""
        if not self._active:
            answer = await self._post("/Plugin.Activate", SHORT, {})
            if self._interface not in (answer.get("Implements") or ()):
                raise WrongInterface(f'plugin "{self.name}" does not implement the requested interface')
            self._active = True
        return await self._post(f"/{method}", timeout or SHORT, body)

    async def _post(self, path: str, timeout: float, body: dict[str, Any]) -> dict[str, Any]:
        import aiohttp

        total = aiohttp.ClientTimeout(total=timeout)
        url, connector = _connector(self.address)
        headers = {"Accept": _TYPE, "Content-Type": _TYPE}
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=total, headers=headers) as session,
                session.post(url + path, data=json.dumps(body)) as answer,
            ):
                status, content = answer.status, await answer.read()
        except TimeoutError:
            raise EngineError(f'plugin "{self.name}" did not answer {path} within {timeout} s') from None
        except (aiohttp.ClientError, OSError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise EngineError(f'plugin "{self.name}" cannot be reached at {self.address.url}: {reason}') from None
        try:
            found = json.loads(content or b"{}")
        except ValueError:
            found = {"Err": content[:200].decode(errors="replace")}
        said = found.get("Err") if isinstance(found, dict) else "no object"
        if said or status != 200:
            raise PluginError(said or f'plugin "{self.name}" answered {path} with HTTP status {status}')
        return dict(found)


class WrongInterface(InvalidParameter):
    """This plug-in is for something else."""


class PluginError(EngineError):
    """What a plug-in itself answered."""


def _connector(address: Address) -> tuple[str, "aiohttp.BaseConnector"]:
    import aiohttp

    if address.url.startswith("unix://"):
        return "http://plugin", aiohttp.UnixConnector(address.url.removeprefix("unix://"))
    url = address.url.replace("tcp://", "https://" if address.tls else "http://")
    if not url.startswith("https://"):
        return url.rstrip("/"), aiohttp.TCPConnector()
    tls = address.tls or TLSConfig()
    context = client_context(tls.ca_file, tls.cert_file, tls.key_file, verify=not tls.insecure_skip_verify)
    return url.rstrip("/"), aiohttp.TCPConnector(ssl=context)


def find_address(name: str) -> Address | None:
    if not name or "/" in name or name.startswith("."):
        return None
    for socket in (f"{SOCKET_FOLDER}/{name}.sock", f"{SOCKET_FOLDER}/{name}/{name}.sock"):
        if os.path.exists(socket):
            return Address(f"unix://{socket}")
    for folder in _SPEC_FOLDERS:
        for path in (f"{folder}/{name}", f"{folder}/{name}/{name}"):
            for ending in (".spec", ".json"):
                try:
                    with open(path + ending, "rb") as file:
                        return _read_address(file.read(), ending)
                except OSError:
                    continue
                except msgspec.MsgspecError as error:
                    raise InvalidParameter(f"{path}{ending}: {error}") from None
    return None


def _read_address(content: bytes, ending: str) -> Address:
    if ending == ".json":
        return msgspec.json.decode(content, type=Address)
    return Address(content.decode(errors="replace").strip())


def names() -> list[str]:
    """The plug-ins that are there to be asked."""
    found = set()
    for folder in (SOCKET_FOLDER, *_SPEC_FOLDERS):
        with contextlib.suppress(OSError):
            for entry in os.listdir(folder):
                name, ending = os.path.splitext(entry)
                if ending in _ENDINGS or any(os.path.exists(f"{folder}/{entry}/{entry}{end}") for end in _ENDINGS):
                    found.add(name)
    return sorted(found)


# Volume plug-ins: drivers in processes of their own.

# Seconds that a call may take: a driver may have to reach a storage system first.
_LONG = 120
_SHORT = 60


class VolumePlugin:
    """One driver. Every method raises EngineError with the plug-in's own words. ``scope`` is "local" or "global"."""

    def __init__(self, name: str, address: Address) -> None:
        self.name = name
        self.address = address
        self.scope = "local"
        self._plugin = Plugin(name, address, "VolumeDriver")
        self._knows_scope = False

    async def create(self, volume: str, options: dict[str, str]) -> None:
        await self._call("Create", _LONG, Name=volume, Opts=options or None)

    async def remove(self, volume: str) -> None:
        await self._call("Remove", _SHORT, Name=volume)

    async def mount(self, volume: str, holder: str) -> str:
        """Makes the volume ready for a container; the folder of the host where its files are."""
        place = str((await self._call("Mount", _LONG, Name=volume, ID=holder)).get("Mountpoint") or "")
        if not place:
            place = str((await self._call("Path", _SHORT, Name=volume)).get("Mountpoint") or "")
        if not place:
            raise EngineError(f'plugin "{self.name}" does not say where volume {volume} is mounted')
        return place

    async def unmount(self, volume: str, holder: str) -> None:
        await self._call("Unmount", _SHORT, Name=volume, ID=holder)

    async def get(self, volume: str) -> dict[str, Any]:
        """What the plug-in says of a volume: Name, and maybe Mountpoint, CreatedAt and Status."""
        found = (await self._call("Get", _SHORT, Name=volume)).get("Volume")
        if not isinstance(found, dict):
            raise NotFound("no such volume")
        return found | {"Name": volume}

    async def find(self, volume: str) -> dict[str, Any] | None:
        """The same, or None: that a volume is not there, plug-ins say in words of their own."""
        try:
            return await self.get(volume)
        except (PluginError, NotFound):
            return None

    async def list_all(self) -> list[dict[str, Any]]:
        """What ``get`` says, of every volume."""
        found = (await self._call("List", _SHORT)).get("Volumes")
        return [each for each in found or () if isinstance(each, dict) and each.get("Name")]

    async def _call(self, method: str, timeout: float, **body: Any) -> dict[str, Any]:
        if not self._knows_scope:
            await self._learn_scope()
            self._knows_scope = True
        return await self._plugin.call(f"VolumeDriver.{method}", body, timeout)

    async def _learn_scope(self) -> None:
        try:
            answer = await self._plugin.call("VolumeDriver.Capabilities", {}, _SHORT)
        except PluginError:  # an older one, which does not know the question
            return
        said = answer.get("Capabilities")
        if isinstance(said, dict) and str(said.get("Scope")).lower() == "global":
            self.scope = "global"


class VolumePlugins:
    """The drivers that were asked for so far, by name."""

    def __init__(self) -> None:
        self._found: dict[str, VolumePlugin] = {}

    def get(self, name: str) -> VolumePlugin:
        """Raises NotFound in Docker's words."""
        address = find_address(name)
        if address is None:
            self._found.pop(name, None)
            raise NotFound(f'error looking up volume plugin {name}: plugin "{name}" not found')
        if name not in self._found or self._found[name].address != address:
            self._found[name] = VolumePlugin(name, address)
        return self._found[name]

    def names(self) -> list[str]:
        """The plug-ins that are there to be asked."""
        return names()

    def scope(self, name: str) -> str:
        return self._found[name].scope if name in self._found else "local"
