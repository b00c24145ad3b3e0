"""Volume plug-ins: drivers in processes of their own."""

from typing import Any

from wherry.common.errors import EngineError, NotFound
from wherry.engine.plugins import Address, Plugin, PluginError, find_address, names

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
        """Those that are there to be asked."""
        return names()

    def scope(self, name: str) -> str:
        return self._found[name].scope if name in self._found else "local"
