"""`version`: what this program and the engine are."""

from __future__ import annotations

import os
import sys
import time

from wherry.cli.session import CommandError, Session, command, current_context
from wherry.cli.table import executed, table, template_of
from wherry.client.client import API_VERSION
from wherry.client.transport import ClientError
from wherry.common import flags
from wherry.common.flags import Options
from wherry.common.platforms import host_architecture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The details of an engine that have lines of their own, in this order; there may be some more.
ENGINE_LINES = (
    ("Python version", "PythonVersion"),
    ("Go version", "GoVersion"),
    ("Git commit", "GitCommit"),
    ("Built", "BuildTime"),
)


def python_version() -> str:
    return "{}.{}.{}".format(*sys.version_info[:3])


def client_info(session: Session) -> dict[str, Any]:
    """This program, under docker's names."""
    from wherry import __version__

    system = os.uname()
    return {
        "Version": __version__,
        "DefaultAPIVersion": API_VERSION,
        "GoVersion": f"none (Python {python_version()})",
        "Os": system.sysname.lower(),
        "Arch": host_architecture(),
        "Context": current_context(session),
    }


@command(flags.template("f"))
def run_version(session: Session, options: Options) -> None:
    format = options["format"]
    template = template_of(format, "version") if format else None
    server: dict[str, Any] | None = None
    failure: ClientError | None = None
    try:
        server = session.client.system.version()
        _complete(server)
    except ClientError as error:
        failure = error
    client = {**client_info(session), "ApiVersion": session.client.version}
    if template is None:
        sys.stdout.write(table(_text(client, server), 20, 1))
    else:
        try:
            text = executed(template, {"Client": client, "Server": server})
        except CommandError as error:
            raise CommandError(str(failure or error)) from None  # without an engine there is no .Server to print
        sys.stdout.write(table(text + "\n", 20, 1))
    sys.stdout.flush()
    if failure is not None:
        raise CommandError(str(failure))


def _complete(server: dict[str, Any]) -> None:
    """Dates as people read them, and an engine that does not say what it is made of as one component."""
    components = server.get("Components") or []
    for component in components:
        details = component.get("Details") or {}
        if component.get("Name") == "Engine" and "BuildTime" in details:
            details["BuildTime"] = readable_date(details["BuildTime"])
    if not any(component.get("Name") == "Engine" for component in components):
        names = ("ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch")
        details = {name: str(server.get(name, "")) for name in names}
        details["BuildTime"] = readable_date(str(server.get("BuildTime", "")))
        details["Experimental"] = "true" if server.get("Experimental") else "false"
        components.append({"Name": "Engine", "Version": server.get("Version", ""), "Details": details})
    server["Components"] = components


def readable_date(text: str) -> str:
    """Mon Jan _2 15:04:05 2006 for an RFC 3339 date; anything else as it is."""
    date, _, clock = text[:19].partition("T")
    parts = date.split("-")
    if len(parts) != 3 or len(clock) != 8 or not all(part.isdecimal() for part in parts):
        return text
    year, month, day = (int(part) for part in parts)
    # Not time.strptime, which would load the re module.
    noon = time.localtime(time.mktime((year, month, day, 12, 0, 0, 0, 0, -1)))
    return time.strftime(f"%a %b %e {clock} %Y", noon)


def _text(client: dict[str, Any], server: dict[str, Any] | None) -> str:
    """The two parts, with tabs between names and values."""
    downgraded = f" (downgraded from {API_VERSION})" if client["ApiVersion"] != API_VERSION else ""
    lines = [
        "Client:",
        f" Version:\t{client['Version']}",
        f" API version:\t{client['ApiVersion']}{downgraded}",
        f" Python version:\t{python_version()}",
        f" OS/Arch:\t{client['Os']}/{client['Arch']}",
        f" Context:\t{client['Context']}",
    ]
    if server is not None:
        platform = (server.get("Platform") or {}).get("Name", "")
        lines += ["", f"Server: {platform}" if platform else "Server:"]
        for component in server["Components"]:
            lines += _component(server, component)
    return "\n".join(lines) + "\n"


def _component(server: dict[str, Any], component: dict[str, Any]) -> list[str]:
    details = component.get("Details") or {}
    if component.get("Name") != "Engine":
        return [
            f" {component.get('Name', '')}:",
            f"  Version:\t{component.get('Version', '')}",
            *(f"  {key}:\t{details[key]}" for key in sorted(details)),
        ]
    return [
        " Engine:",
        f"  Version:\t{server.get('Version', '')}",
        f"  API version:\t{details.get('ApiVersion', '')} (minimum version {details.get('MinAPIVersion', '')})",
        *(f"  {title}:\t{details[key]}" for title, key in ENGINE_LINES if details.get(key)),
        f"  OS/Arch:\t{details.get('Os', '')}/{details.get('Arch', '')}",
        f"  Experimental:\t{details.get('Experimental', '')}",
    ]
