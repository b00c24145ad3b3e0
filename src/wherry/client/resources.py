"""Volumes and networks as objects: `engine.volumes` and `engine.networks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wherry.client.containers import AsyncContainer, filtered
from wherry.client.options import named
from wherry.client.transport import APIError

if TYPE_CHECKING:
    from typing import Self

    from wherry.client.engine import AsyncEngine
    from wherry.client.options import Pairs

    Filters = Mapping[str, Sequence[str] | str] | None


class AsyncVolumeCollection:
    """`engine.volumes`.

    >>> import wherry
    >>> with wherry.connect() as engine, engine.volumes.create("pages", labels={"app": "demo"}) as volume:
    ...     engine.run("busybox", "echo ahoy > /www/index", volumes={"pages": "/www"}).exit_code
    ...     engine.run("busybox", "cat /www/index", volumes={"pages": {"bind": "/www", "mode": "ro"}}).output
    ...     volume, engine.volumes.list(filters={"label": "app=demo"}) == [volume]
    0
    'ahoy\\n'
    (<Volume pages>, True)
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(
        self, name: str = "", *, driver: str = "local", driver_opts: Pairs | None = None, labels: Pairs | None = None
    ) -> AsyncVolume:
        """Makes a volume, or gives the one that there is; without a name it gets one."""
        body = {"Name": name, "Driver": driver, "DriverOpts": named(driver_opts or {}), "Labels": named(labels or {})}
        return AsyncVolume(self._engine, str((await self._engine.client.volumes.create(body))["Name"]))

    async def get(self, name: str) -> AsyncVolume:
        """Raises APIError, whose `not_found` is true when there is none."""
        return AsyncVolume(self._engine, str((await self._engine.client.volumes.inspect(name))["Name"]))

    async def list(self, *, filters: Filters = None) -> list[AsyncVolume]:
        """`filters` as of `volume ls --filter`."""
        found = await self._engine.client.volumes.list(filtered(filters))
        return [AsyncVolume(self._engine, str(each["Name"])) for each in found]

    async def prune(self, *, filters: Filters = None) -> dict[str, Any]:
        """Removes those without a name that nobody uses, or with {"all": "true"} all: `VolumesDeleted`."""
        return await self._engine.client.volumes.prune(filtered(filters))


class AsyncVolume:
    """A volume. As a context it is removed at the end of the block. Two are equal that stand for the same one."""

    name: str

    def __init__(self, engine: AsyncEngine, name: str) -> None:
        self._engine = engine
        self.name = name

    def __repr__(self) -> str:
        return f"<AsyncVolume {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncVolume) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.client.loop.finish(self.remove())

    @property
    def id(self) -> str:
        """Its name."""
        return self.name

    async def inspect(self) -> dict[str, Any]:
        """All that the engine knows of it, in the words of the API."""
        return await self._engine.client.volumes.inspect(self.name)

    async def remove(self, *, force: bool = False) -> None:
        """Raises APIError while a container uses it. One that is gone is no error."""
        try:
            await self._engine.client.volumes.remove(self.name, force=force)
        except APIError as error:
            if not error.not_found:
                raise


class AsyncNetworkCollection:
    """`engine.networks`.

    >>> import wherry
    >>> with wherry.connect() as engine, engine.networks.create("backend", internal=True) as network:
    ...     with engine.start("busybox", ["sleep", "60"], network="backend", name="db"):
    ...         print(engine.run("busybox", "ping -c 1 db > /dev/null", network="backend").exit_code)
    ...     network
    0
    <Network backend>
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(
        self,
        name: str,
        *,
        driver: str = "bridge",
        options: Pairs | None = None,
        labels: Pairs | None = None,
        subnet: str = "",
        gateway: str = "",
        ip_range: str = "",
        internal: bool = False,
        attachable: bool = False,
        enable_ipv6: bool = False,
        ipam: Mapping[str, Any] | None = None,
    ) -> AsyncNetwork:
        """Makes a network. `ipam` is the API's IPAM, where `subnet`, `gateway` and `ip_range` do not say enough."""
        pool = {key: value for key, value in (("Subnet", subnet), ("Gateway", gateway), ("IPRange", ip_range)) if value}
        body = {
            "Name": name,
            "Driver": driver,
            "Options": named(options or {}),
            "Labels": named(labels or {}),
            "Internal": internal,
            "Attachable": attachable,
            "EnableIPv6": enable_ipv6,
            "IPAM": dict(ipam) if ipam else {"Config": [pool]} if pool else None,
        }
        return AsyncNetwork(self._engine, await self._engine.client.networks.create(body), name)

    async def get(self, name: str) -> AsyncNetwork:
        """By name or id. Raises APIError, whose `not_found` is true when there is none."""
        found = await self._engine.client.networks.inspect(name)
        return AsyncNetwork(self._engine, str(found["Id"]), str(found["Name"]))

    async def list(self, *, filters: Filters = None) -> list[AsyncNetwork]:
        """`filters` as of `network ls --filter`."""
        found = await self._engine.client.networks.list(filtered(filters))
        return [AsyncNetwork(self._engine, str(each["Id"]), str(each["Name"])) for each in found]

    async def prune(self, *, filters: Filters = None) -> dict[str, Any]:
        """Removes those that no container is in: `NetworksDeleted`."""
        return await self._engine.client.networks.prune(filtered(filters))


class AsyncNetwork:
    """A network. As a context it is removed at the end of the block. Two are equal that stand for the same one."""

    id: str
    name: str

    def __init__(self, engine: AsyncEngine, id: str, name: str) -> None:
        self._engine = engine
        self.id, self.name = id, name

    def __repr__(self) -> str:
        return f"<AsyncNetwork {self.name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncNetwork) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.client.loop.finish(self.remove())

    async def inspect(self) -> dict[str, Any]:
        """All that the engine knows of it, in the words of the API."""
        return await self._engine.client.networks.inspect(self.id)

    @property
    async def containers(self) -> list[AsyncContainer]:
        """Those that are in it, now."""
        return [AsyncContainer(self._engine, id) for id in (await self.inspect()).get("Containers") or {}]

    async def connect(
        self,
        container: AsyncContainer | str,
        *,
        aliases: Sequence[str] = (),
        ipv4_address: str = "",
        ipv6_address: str = "",
    ) -> None:
        """Connects a container that runs, or will.

        >>> import wherry
        >>> with wherry.connect() as engine, engine.networks.create("second") as network:
        ...     with engine.start("busybox", ["sleep", "60"]) as container:
        ...         network.connect(container, aliases=["cache"])
        ...         network.containers == [container]
        ...         network.disconnect(container)
        True
        """
        address = {key: value for key, value in (("IPv4Address", ipv4_address), ("IPv6Address", ipv6_address)) if value}
        endpoint = {"Aliases": [*aliases] or None, "IPAMConfig": address or None}
        await self._engine.client.networks.connect(self.id, getattr(container, "id", str(container)), endpoint)

    async def disconnect(self, container: AsyncContainer | str, *, force: bool = False) -> None:
        """Takes a container out; `force` also where it has gone in a way that the network has not noticed."""
        await self._engine.client.networks.disconnect(self.id, getattr(container, "id", str(container)), force=force)

    async def remove(self) -> None:
        """Raises APIError while a container is in it. One that is gone is no error."""
        try:
            await self._engine.client.networks.remove(self.id)
        except APIError as error:
            if not error.not_found:
                raise
