"""`ps` and `container ls`: the containers, a line each."""

from __future__ import annotations

import sys

from wherry.cli import flags
from wherry.cli.command import NONE, Command, CommandError
from wherry.cli.formatting import (
    QUIET,
    RAW,
    TABLE,
    Row,
    ellipsis,
    human_size,
    joined_labels,
    listing,
    local_time,
    short_id,
    since,
)
from wherry.cli.texts import LISTING_FORMAT
from wherry.cli.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.command import Session
    from wherry.cli.flags import Options

COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")

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


class ContainerRow(Row):
    """A container of GET /containers/json; `truncates` shortens what is long."""

    go_type = "*formatter.ContainerContext"
    headers = {  # noqa: RUF012 - never changed
        "ID": "CONTAINER ID",
        "Names": "NAMES",
        "Image": "IMAGE",
        "Command": "COMMAND",
        "CreatedAt": "CREATED AT",
        "RunningFor": "CREATED",
        "Ports": "PORTS",
        "State": "STATE",
        "Status": "STATUS",
        "Size": "SIZE",
        "Labels": "LABELS",
        "Mounts": "MOUNTS",
        "LocalVolumes": "LOCAL VOLUMES",
        "Networks": "NETWORKS",
        "Platform": "PLATFORM",
    }
    methods = {"Label": ("string",)}  # noqa: RUF012 - never changed

    def __init__(self, container: dict[str, Any], truncates: bool) -> None:
        self.container, self.truncates = container, truncates
        self.asked_for_size = False

    def text(self, key: str) -> str:
        return str(self.container.get(key) or "")

    def ID(self) -> str:
        return short_id(self.text("Id")) if self.truncates else self.text("Id")

    def Names(self) -> str:
        names = [str(name)[1:] for name in self.container.get("Names") or ()]
        own = [name for name in names if "/" not in name]  # the others are links of other containers to this one
        return own[0] if self.truncates and own else ",".join(names)

    def Image(self) -> str:
        image = self.text("Image")
        if not image:
            return "<no image>"
        if not self.truncates:
            return image
        identity = short_id(self.text("ImageID"))
        return identity if identity == short_id(image) else _without_digest(image)

    def Command(self) -> str:
        command = self.text("Command")
        return quoted(ellipsis(command, 20) if self.truncates else command)

    def CreatedAt(self) -> str:
        return local_time(self.container.get("Created") or 0)

    def RunningFor(self) -> str:
        return since(self.container.get("Created") or 0)

    def Ports(self) -> str:
        return displayed_ports(self.container.get("Ports") or [])

    def State(self) -> str:
        return self.text("State")

    def Status(self) -> str:
        return self.text("Status")

    def Size(self) -> str:
        self.asked_for_size = True
        size, virtual = self.container.get("SizeRw") or 0, self.container.get("SizeRootFs") or 0
        shown = human_size(size, 3)
        return f"{shown} (virtual {human_size(virtual, 3)})" if virtual > 0 else shown

    def Labels(self) -> str:
        return joined_labels(self.container.get("Labels"))

    def Label(self, name: str) -> str:
        return str((self.container.get("Labels") or {}).get(name, ""))

    def Mounts(self) -> str:
        names = [str(m.get("Name") or m.get("Source") or "") for m in self.container.get("Mounts") or ()]
        return ",".join(ellipsis(name, 15) if self.truncates else name for name in names)

    def LocalVolumes(self) -> str:
        return str(sum(mount.get("Driver") == "local" for mount in self.container.get("Mounts") or ()))

    def Networks(self) -> str:
        return ",".join((self.container.get("NetworkSettings") or {}).get("Networks") or {})

    def Platform(self) -> str | None:
        found = (self.container.get("ImageManifestDescriptor") or {}).get("platform") or {}
        return "/".join(found[key] for key in ("os", "architecture", "variant") if found.get(key)) or None


def _without_digest(image: str) -> str:
    from wherry.cli.reference import parse

    try:
        found = parse(image)
    except ValueError:
        return image
    if found is None:
        return image
    found.digest = ""
    return found.familiar


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
    row = ContainerRow({}, truncates=False)
    try:
        template.execute(row)
    except TemplateError as error:
        raise CommandError(f"failed to execute template: {error}") from None
    return row.asked_for_size


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
    rows = [ContainerRow(container, not options["no-trunc"]) for container in found]
    columns = (*COLUMNS, "Size") if size else COLUMNS
    sys.stdout.write(listing(ContainerRow, rows, _template(format, quiet, size), columns))


def _template(format: str, quiet: bool, size: bool) -> str:
    if format == RAW:
        return "container_id: {{.ID}}" if quiet else RAW_FORMAT + ("size: {{.Size}}\\n" if size else "")
    return QUIET if quiet else format or TABLE


FLAGS = [
    flags.switch("all", "a", "Show all containers (default shows just running)"),
    flags.filters("Filter output based on conditions provided"),
    flags.string("format", "", LISTING_FORMAT),
    flags.integer("last", "n", "Show n last created containers (includes all states)", -1),
    flags.switch("latest", "l", "Show the latest created container (includes all states)"),
    flags.switch("no-trunc", "", "Don't truncate output"),
    flags.switch("quiet", "q", "Only display container IDs"),
    flags.switch("size", "s", "Display total file sizes"),
]

ALIASES = "wherry container ls, wherry container list, wherry container ps, wherry ps"
PS = Command("ps [OPTIONS]", "List containers", run_ps, flags=FLAGS, arguments=NONE, aliases=ALIASES)
CONTAINER_LS = Command("ls [OPTIONS]", "List containers", run_ps, flags=FLAGS, arguments=NONE, aliases=ALIASES)
