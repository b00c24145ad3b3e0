"""`info`: the engine and the machine that it runs on."""

from __future__ import annotations

import sys

from wherry.cli.prune import CACHE_COLUMNS, CACHE_TABLE, cache_rows, cache_sizes
from wherry.cli.session import CommandError, Session, command
from wherry.cli.table import JSON, RAW, TABLE, TEMPLATE_ERROR, Listing, Row, executed, rfc3339, template_of
from wherry.cli.version import client_info
from wherry.client.transport import APIError, ClientError, ConnectionFailed
from wherry.common import flags
from wherry.common.errors import EngineError
from wherry.common.flags import Options
from wherry.common.sizes import binary_size, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from wherry.cli.templates import Template

    Usage = dict[str, Any]

# The answers of an engine that have a line each, in this order, where they say anything.
ENGINE = (("Server Version", "ServerVersion"), ("Storage Driver", "Driver"))
LOGGING = (("Logging Driver", "LoggingDriver"), ("Cgroup Driver", "CgroupDriver"), ("Cgroup Version", "CgroupVersion"))
MACHINE = (
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
)
PROXIES = (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy"))


@command(flags.template("f"))
def run_info(session: Session, options: Options) -> None:
    format = options["format"]
    if format:
        _formatted(session, format)
        return
    client = client_info(session)
    print(f"Client:\n Version:    {client['Version']}\n Context:    {client['Context']}")
    print(f" Debug Mode: {_word(session.debug)}\n\nServer:")
    try:
        info = session.client.system.info()
    except APIError as error:
        print("ERROR:", error, file=sys.stderr)
        raise CommandError("errors pretty printing info") from None
    except ClientError:
        sys.stdout.flush()
        raise
    print("\n".join(lines_of(info, session.debug)) + "\n", flush=True)
    for warning in info.get("Warnings") or ():
        print(warning, file=sys.stderr)
    if "name=rootless" in (info.get("SecurityOptions") or ()):
        print(f"For docker: export DOCKER_HOST={session.endpoint.address}", file=sys.stderr)


def _formatted(session: Session, format: str) -> None:
    client = {"ClientInfo": {**client_info(session), "Debug": session.debug, "Plugins": [], "Warnings": None}}
    template = template_of(format)
    if _is_about_client(template, format, client):
        print(executed(template, client))
        return
    try:
        info = session.client.system.info()
    except ConnectionFailed:
        print(flush=True)
        raise
    except APIError as error:
        print(error, file=sys.stderr)
        info = {"ServerErrors": [str(error)]}
    print(executed(template, {**info, **client}))


def _is_about_client(template: Template, format: str, client: dict[str, Any]) -> bool:
    """Whether a template shows nothing that the engine would have to be asked for."""
    from wherry.cli.templates import TemplateError

    if "ClientInfo" not in format and "ClientErrors" not in format:
        return False
    try:
        template.execute(client)
    except TemplateError:
        return False
    return True


def lines_of(info: dict[str, Any], debug: bool) -> Iterator[str]:
    """What docker's info shows of an engine, line by line."""
    yield f" Containers: {info.get('Containers', 0)}"
    for state in ("Running", "Paused", "Stopped"):
        yield f"  {state}: {info.get(f'Containers{state}', 0)}"
    yield f" Images: {info.get('Images', 0)}"
    yield from _told(info, ENGINE)
    yield from (f"  {pair[0]}: {pair[1]}" for pair in info.get("DriverStatus") or ())
    yield from _told(info, LOGGING)
    yield from _plugins(info.get("Plugins") or {})
    if info.get("CDISpecDirs"):
        yield " CDI spec directories:"
        yield from (f"  {directory}" for directory in info["CDISpecDirs"])
    if info.get("DiscoveredDevices"):
        yield " Discovered Devices:"
        yield from (f"  {device['Source']}: {device['ID']}" for device in info["DiscoveredDevices"])
    if (starts := info.get("Starts")) and starts["Waiting"]:
        yield f" Starts: {starts['UnderWay']} under way, {starts['Waiting']} waiting, {starts['AtATime']} at a time"
    yield f" Swarm: {(info.get('Swarm') or {}).get('LocalNodeState', '')}"
    if info.get("Runtimes"):
        yield f" Runtimes: {' '.join(info['Runtimes'])}"
        yield f" Default Runtime: {info.get('DefaultRuntime', '')}"
    if info.get("OSType") == "linux":
        yield f" Init Binary: {info.get('InitBinary', '')}"
        for name in ("containerd", "runc", "init"):
            yield f" {name} version: {(info.get(f'{name.capitalize()}Commit') or {}).get('ID', '')}"
        yield from _security(info.get("SecurityOptions") or [])
    yield from _told(info, MACHINE)
    yield f" CPUs: {info.get('NCPU', 0)}"
    yield f" Total Memory: {binary_size(info.get('MemTotal', 0))}"
    yield from _told(info, (("Name", "Name"), ("ID", "ID")))
    yield f" Docker Root Dir: {info.get('DockerRootDir', '')}"
    yield f" Debug Mode: {_word(info.get('Debug'))}"
    if info.get("Debug") or debug:
        yield f"  File Descriptors: {info.get('NFd', 0)}"
        yield f"  Goroutines: {info.get('NGoroutines', 0)}"
        yield f"  System Time: {info.get('SystemTime', '')}"
        yield f"  EventsListeners: {info.get('NEventsListener', 0)}"
    yield from _told(info, PROXIES)
    if info.get("Labels"):
        yield " Labels:"
        yield from (f"  {label}" for label in info["Labels"])
    yield f" Experimental: {_word(info.get('ExperimentalBuild'))}"
    yield from _registries(info.get("RegistryConfig") or {})
    yield f" Live Restore Enabled: {_word(info.get('LiveRestoreEnabled'))}"
    if info.get("ProductLicense"):
        yield f" Product License: {info['ProductLicense']}"
    if info.get("DefaultAddressPools"):
        yield " Default Address Pools:"
        yield from (f"   Base: {pool['Base']}, Size: {pool['Size']}" for pool in info["DefaultAddressPools"])


def _told(info: dict[str, Any], lines: tuple[tuple[str, str], ...]) -> Iterator[str]:
    return (f" {title}: {info[key]}" for title, key in lines if info.get(key))


def _plugins(plugins: dict[str, list[str] | None]) -> Iterator[str]:
    yield " Plugins:"
    for kind in ("Volume", "Network", "Authorization", "Log"):
        names = plugins.get(kind) or []
        if names or kind != "Authorization":
            yield f"  {kind}: {' '.join(names)}"


def _security(options: list[str]) -> Iterator[str]:
    """The lines for options like name=seccomp,profile=builtin."""
    if options:
        yield " Security Options:"
    for option in options:
        pairs = [pair.partition("=")[::2] for pair in option.split(",")]
        yield "  " + (dict(pairs).get("name", "") if "=" in option else option)
        yield from (f"   Profile: {value}" for key, value in pairs if key == "profile")


def _registries(config: dict[str, Any]) -> Iterator[str]:
    indexes, networks = config.get("IndexConfigs") or {}, config.get("InsecureRegistryCIDRs") or []
    if indexes or networks:
        yield " Insecure Registries:"
        yield from (f"  {index.get('Name', '')}" for index in indexes.values() if not index.get("Secure"))
        yield from (f"  {network}" for network in networks)
    if config.get("Mirrors"):
        yield " Registry Mirrors:"
        yield from (f"  {mirror}" for mirror in config["Mirrors"])


def _word(value: object) -> str:
    return "true" if value else "false"


# `system df`: what images, containers, volumes and the build cache take on the disk.

IMAGE_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
CONTAINER_COLUMNS = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
VOLUME_COLUMNS = ("Name", "Links", "Size")

RAW_FORMAT = """type: {{.Type}}
total: {{.TotalCount}}
active: {{.Active}}
size: {{.Size}}
reclaimable: {{.Reclaimable}}
"""
_CACHE = "Build Cache"


def _reclaimable(row: Row) -> str:
    size, free = row["Size"], row["Reclaimable"]
    return human_size(free) + (f" ({free * 100 // size}%)" if size > 0 and row["Type"] != _CACHE else "")


# Kinds of things: how many there are, how many are in use, and what removing the others would give.
USAGE = Listing(
    "*formatter.diskUsageContext",
    "Type TotalCount Active Size Reclaimable",
    {
        "Type": ("TYPE", "Type"),
        "TotalCount": ("TOTAL", lambda row: str(row["Total"])),
        "Active": ("ACTIVE", lambda row: str(row["Active"])),
        "Size": ("SIZE", lambda row: human_size(row["Size"])),
        "Reclaimable": ("RECLAIMABLE", _reclaimable),
    },
)
# All of it, for the templates of -v: {{range .Images}}…{{end}}.
EVERYTHING = Listing(
    USAGE.go_type,
    "",
    {
        "Images": ("", lambda row: row["Images"]),
        "Containers": ("", lambda row: row["Containers"]),
        "Volumes": ("", lambda row: row["Volumes"]),
        "BuildCache": ("", lambda row: row["BuildCache"]),
    },
)


def rows_of_usage(usage: Usage) -> list[Row]:
    images: list[Usage] = usage.get("Images") or []
    containers: list[Usage] = usage.get("Containers") or []
    volumes: list[Usage] = usage.get("Volumes") or []
    layers = usage.get("LayersSize") or 0
    used = [image for image in images if image.get("Containers", 0) > 0]
    kept = sum(image["Size"] - image["SharedSize"] for image in used if -1 not in (image["Size"], image["SharedSize"]))
    active = [each for each in containers if each.get("State") in ("running", "paused", "restarting")]
    written, active_written = (sum(each.get("SizeRw") or 0 for each in some) for some in (containers, active))
    data = [volume["UsageData"] for volume in volumes if volume.get("UsageData")]
    linked = [each for each in data if each["RefCount"] > 0]
    cache: list[Usage] = usage.get("BuildCache") or []
    cache_size, cache_free = cache_sizes(cache)
    sizes, linked_sizes = (sum(each["Size"] for each in some if each["Size"] != -1) for some in (data, linked))
    return [
        Row(USAGE, {"Type": kind, "Total": total, "Active": count, "Size": size, "Reclaimable": free})
        for kind, total, count, size, free in (
            ("Images", len(images), len(used), layers, layers - kept),
            ("Containers", len(containers), len(active), written, written - active_written),
            ("Local Volumes", len(volumes), len(linked), sizes, sizes - linked_sizes),
            (_CACHE, len(cache), sum(each["InUse"] for each in cache), cache_size, cache_free),
        )
    ]


@command(flags.listing(), flags.switch("verbose", "v", "Show detailed information on space usage"))
def run_df(session: Session, options: Options) -> None:
    usage = session.client.system.df()
    format = options["format"] or TABLE
    if options["verbose"]:
        sys.stdout.write(_verbose(usage, format))
        return
    sys.stdout.write(USAGE.text(rows_of_usage(usage), RAW_FORMAT if format == RAW else format))


def _verbose(usage: Usage, format: str) -> str:
    from wherry.cli.containers import CONTAINERS
    from wherry.cli.images import IMAGES, rows_of
    from wherry.cli.volume import VOLUMES

    truncates = format.startswith(TABLE)
    images = [rows_of(image, truncates, False, False)[0] for image in usage.get("Images") or ()]
    for row in images:
        row.item = {**row.item, "Digest": ""}
    containers = [
        Row(CONTAINERS, {**container, "SizeRootFs": 0}, truncates) for container in usage.get("Containers") or ()
    ]
    volumes = [Row(VOLUMES, volume) for volume in usage.get("Volumes") or ()]
    records: list[Usage] = usage.get("BuildCache") or []
    cache = cache_rows(records, truncates)
    everything = {"Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": cache}
    if format == JSON:
        from wherry.cli.templates.functions import encode

        return encode(everything)
    if format != TABLE:
        return EVERYTHING.text([Row(EVERYTHING, everything)], format).removesuffix("\n")  # docker ends it so
    return (
        "Images space usage:\n\n"
        + IMAGES.text(images, TABLE, IMAGE_COLUMNS)
        + "\nContainers space usage:\n\n"
        + CONTAINERS.text(containers, TABLE, CONTAINER_COLUMNS)
        + "\nLocal Volumes space usage:\n\n"
        + VOLUMES.text(volumes, TABLE, VOLUME_COLUMNS)
        + f"\nBuild cache usage: {human_size(cache_sizes(records)[0])}\n\n"
        + CACHE_TABLE.text(cache, TABLE, CACHE_COLUMNS)
    )


# `events`: what happens in the engine, as it happens.

NO_EVENT = {
    **dict.fromkeys(("status", "id", "from", "Type", "Action", "scope"), ""),
    "Actor": {"ID": "", "Attributes": {}},
    "time": 0,
    "timeNano": 0,
}


@command(
    flags.filters("Filter output based on conditions provided"),
    flags.template(),
    flags.string("since", "", "Show all events created since timestamp"),
    flags.string("until", "", "Stream events until this timestamp"),
)
def run_events(session: Session, options: Options) -> None:
    from wherry.common.times import query_time

    format = options["format"]
    template = _template(format) if format else None
    try:
        since, until = query_time(options["since"]), query_time(options["until"])
    except EngineError as error:
        raise CommandError(error.message) from None
    query = {"since": since, "until": until, "filters": options["filter"]}
    for event in session.client.system.events(**query).values():
        whole = event if format == "json" else {**NO_EVENT, **event}
        print(executed(template, whole) if template else line_of(event), flush=True)


def _template(format: str) -> Template:
    """The template, tried on an event without anything in it: a field that no event has is told before any comes."""
    from wherry.cli.templates import TemplateError
    from wherry.cli.templates.values import shaped

    template = template_of(format, failure="Error parsing format")
    try:
        template.execute(shaped(NO_EVENT))
    except TemplateError as error:
        raise CommandError(f"Error parsing format: {error}", TEMPLATE_ERROR) from None
    return template


def line_of(event: dict[str, Any]) -> str:
    """TIME TYPE ACTION ID (KEY=VALUE, …)"""
    actor = event.get("Actor") or {}
    parts = [str(event.get("Type", "")), str(event.get("Action", "")), str(actor.get("ID", ""))]
    nanoseconds = event.get("timeNano") or (event.get("time") or 0) * 10**9
    if nanoseconds:
        parts.insert(0, rfc3339(nanoseconds // 10**9, nanoseconds % 10**9))
    attributes = actor.get("Attributes") or {}
    if attributes:
        parts.append(f"({', '.join(f'{key}={attributes[key]}' for key in sorted(attributes))})")
    return " ".join(parts)
