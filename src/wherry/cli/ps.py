"""`ps` and `container ls`: the containers, a line each."""

from __future__ import annotations

import sys

from wherry.cli.session import CommandError, Session, command
from wherry.cli.table import RAW, Listing, Row, ellipsis, local_time, short_id, since
from wherry.common import flags
from wherry.common.flags import Options
from wherry.common.sizes import human_size
from wherry.common.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


RAW_FORMAT = """container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{- pad .State 1 0}}
status: {{- pad .Status 1 0}}
names: {{.Names}}
labels: {{- pad .Labels 1 0}}
ports: {{- pad .Ports 1 0}}
"""


def _names(row: Row) -> str:
    names = [str(name)[1:] for name in row["Names"] or ()]
    own = [name for name in names if "/" not in name]  # the others are links of other containers to this one
    return own[0] if row.truncates and own else ",".join(names)


def _image(row: Row) -> str:
    image = str(row["Image"] or "<no image>")
    if not row.truncates or not row["Image"]:
        return image
    identity = row.id("ImageID")
    return identity if identity == short_id(image) else _without_digest(image)


def _command(row: Row) -> str:
    command = str(row["Command"] or "")
    return quoted(ellipsis(command, 20) if row.truncates else command)


def _size(row: Row) -> str:
    size, virtual = row["SizeRw"] or 0, row["SizeRootFs"] or 0
    return human_size(size, 3) + (f" (virtual {human_size(virtual, 3)})" if virtual > 0 else "")


def _mounts(row: Row) -> str:
    names = [str(mount.get("Name") or mount.get("Source") or "") for mount in row["Mounts"] or ()]
    return ",".join(ellipsis(name, 15) if row.truncates else name for name in names)


def _local_volumes(row: Row) -> str:
    return str(sum(mount.get("Driver") == "local" for mount in row["Mounts"] or ()))


def _platform(row: Row) -> str | None:
    found = (row["ImageManifestDescriptor"] or {}).get("platform") or {}
    return "/".join(found[key] for key in ("os", "architecture", "variant") if found.get(key)) or None


def _without_digest(image: str) -> str:
    from wherry.common.reference import InvalidReference, Reference, parse

    try:
        found = parse(image)
    except InvalidReference:
        return image
    return Reference(found.domain, found.path, found.tag).familiar


CONTAINERS = Listing(
    "*formatter.ContainerContext",
    "ID Image Command RunningFor Status Ports Names",
    {
        "ID": ("CONTAINER ID", Row.id),
        "Names": ("NAMES", _names),
        "Image": ("IMAGE", _image),
        "Command": ("COMMAND", _command),
        "CreatedAt": ("CREATED AT", lambda row: local_time(row["Created"] or 0)),
        "RunningFor": ("CREATED", lambda row: since(row["Created"] or 0)),
        "Ports": ("PORTS", lambda row: displayed_ports(row["Ports"] or [])),
        "State": ("STATE", "State"),
        "Status": ("STATUS", "Status"),
        "Size": ("SIZE", _size),
        "Labels": ("LABELS", Row.labels),
        "Mounts": ("MOUNTS", _mounts),
        "LocalVolumes": (
            "LOCAL VOLUMES",
            lambda row: str(sum(m.get("Driver") == "local" for m in row["Mounts"] or ())),
        ),
        "Networks": ("NETWORKS", lambda row: ",".join((row["NetworkSettings"] or {}).get("Networks") or {})),
        "Platform": ("PLATFORM", _platform),
    },
)


def displayed_ports(ports: list[dict[str, Any]]) -> str:
    """0.0.0.0:8080->80/tcp, 9000-9002/udp: ports that follow one another, mapped to the same, are one range."""
    groups: dict[str, list[int]] = {}
    done, mapped = [], []
    for port in sorted(ports, key=_port_order):
        address, private, public = port.get("IP") or "", port.get("PrivatePort") or 0, port.get("PublicPort") or 0
        key = port.get("Type") or ""
        if address:
            if public != private:
                mapped.append(f"{_address_and_port(address, public)}->{private}/{key}")
                continue
            key = f"{address}/{key}"
        last = groups.get(key)
        if last is not None and private == last[1] + 1:
            last[1] = private
            continue
        if last is not None:
            done.append(_port_group(key, *last))
        groups[key] = [private, private]
    return ", ".join([*done, *(_port_group(key, *group) for key, group in groups.items()), *mapped])


def _port_order(port: dict[str, Any]) -> tuple[int, str, int, str]:
    return port.get("PrivatePort") or 0, port.get("IP") or "", port.get("PublicPort") or 0, port.get("Type") or ""


def _port_group(key: str, first: int, last: int) -> str:
    address, _, protocol = key.rpartition("/")
    shown = str(first) if first == last else f"{first}-{last}"
    return f"{_address_and_port(address, shown)}->{shown}/{protocol}" if address else f"{shown}/{protocol}"


def _address_and_port(address: str, port: int | str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def needs_size(format: str) -> bool:
    """Whether a template shows the containers' sizes, which take the engine long to find. Raises CommandError."""
    from wherry.cli.templates import TemplateError, parse

    try:
        template = parse(format)
    except TemplateError as error:
        raise CommandError(f"failed to parse template: {error}") from None
    row = _Probe(CONTAINERS, {})
    try:
        template.execute(row)
    except TemplateError as error:
        raise CommandError(f"failed to execute template: {error}") from None
    return row.asked


class _Probe(Row):
    """A row that says whether its size was asked for."""

    asked = False

    def field(self, name: str, *arguments: str) -> Any:
        self.asked = self.asked or name == "Size"
        return super().field(name, *arguments)


@command(
    flags.switch("all", "a", "Show all containers (default shows just running)"),
    flags.filters("Filter output based on conditions provided"),
    flags.listing(),
    flags.integer("last", "n", "Show n last created containers (includes all states)", -1),
    flags.switch("latest", "l", "Show the latest created container (includes all states)"),
    flags.switch("no-trunc", "", "Don't truncate output"),
    flags.switch("quiet", "q", "Only display container IDs"),
    flags.switch("size", "s", "Display total file sizes"),
)
def run_ps(session: Session, options: Options) -> None:
    format: str = options["format"]
    quiet, size = options["quiet"], options["size"]
    if not format:
        format = str(session.config.get("psFormat") or "")
    elif quiet:
        print("WARNING: Ignoring custom format, because both --format and --quiet are set.", file=sys.stderr)
    if format:
        wanted = needs_size(format)
        size = size or (wanted and not quiet and not options.changed("size"))
    last = options["last"]
    if options["latest"] and last == -1:
        last = 1
    found = session.client.containers.list(
        all=options["all"], limit=last if last > 0 else None, size=size, filters=options["filter"]
    )
    rows = [Row(CONTAINERS, container, not options["no-trunc"]) for container in found]
    columns = (*CONTAINERS.shown, "Size") if size else ()
    sys.stdout.write(CONTAINERS.text(rows, _template(format, quiet, size), columns))


def _template(format: str, quiet: bool, size: bool) -> str:
    if format == RAW:
        return "container_id: {{.ID}}" if quiet else RAW_FORMAT + ("size: {{.Size}}\n" if size else "")
    return "{{.ID}}" if quiet else format
