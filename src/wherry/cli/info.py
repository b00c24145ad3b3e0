"""`info`: the engine and the machine that it runs on."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import CommandError, Session, command
from wherry.cli.flags import Options
from wherry.cli.formatting import binary_size, executed, template_of
from wherry.cli.version import client_info
from wherry.client.errors import APIError, ClientError, ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from wherry.cli.templates import Template

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
        info = session.client.get("/info")
    except APIError as error:
        print("ERROR:", error, file=sys.stderr)
        raise CommandError("errors pretty printing info") from None
    except ClientError:
        sys.stdout.flush()
        raise
    print("\n".join(lines_of(info, session.debug)) + "\n", flush=True)
    for warning in info.get("Warnings") or ():
        print(warning, file=sys.stderr)


def _formatted(session: Session, format: str) -> None:
    client = {"ClientInfo": {**client_info(session), "Debug": session.debug, "Plugins": [], "Warnings": None}}
    template = template_of(format)
    if _is_about_client(template, format, client):
        print(executed(template, client))
        return
    try:
        info = session.client.get("/info")
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
    """From options like name=seccomp,profile=builtin."""
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
