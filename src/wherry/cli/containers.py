"""What is done to containers by name: stop, restart, kill, pause, unpause, rm, rename, wait; and what they say of
themselves: top, diff, port."""

from __future__ import annotations

import sys

from wherry.cli.session import CommandError, Session, command, for_all, for_each
from wherry.cli.table import RAW, Listing, Row, ellipsis, local_time, short_id, since
from wherry.client.client import container_path
from wherry.client.transport import APIError, ClientError
from wherry.common import flags, values
from wherry.common.errors import EngineError
from wherry.common.flags import Options, integer, string, switch
from wherry.common.sizes import human_size
from wherry.common.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.session import Request

_SIGNAL = string("signal", "s", "Signal to send to the container")
_SECONDS = "Seconds to wait before killing the container"
_TIMEOUT = integer("timeout", "t", _SECONDS)
_TIME = integer("time", "", f"{_SECONDS} (deprecated: use --timeout)", deprecated="use --timeout instead",
                store="timeout")  # fmt: skip
KINDS = "CAD"  # of changes: changed, added, deleted
WIDTH, GAP = 20, 3  # of a column of `top` at least, and between two


def _post_all(session: Session, options: Options, action: str, **query: Any) -> None:
    for_all(session, options.arguments, lambda name: ("POST", container_path(name, action), query))


@command(_SIGNAL, _TIMEOUT, _TIME)
def run_stop(session: Session, options: Options) -> None:
    _post_all(session, options, "stop", t=_timeout(options), signal=options["signal"])


@command(_SIGNAL, _TIMEOUT, _TIME)
def run_restart(session: Session, options: Options) -> None:
    timeout, restart = _timeout(options), session.client.containers.restart
    for_each(options.arguments, lambda name: restart(name, timeout=timeout, signal=options["signal"]))


def _timeout(options: Options) -> int | None:
    """Seconds; None leaves it to the container."""
    if options.changed("time") and options.changed("timeout"):
        raise CommandError("conflicting options: cannot specify both --timeout and --time")
    return int(options["timeout"]) if options.changed("time") or options.changed("timeout") else None


@command(_SIGNAL)
def run_kill(session: Session, options: Options) -> None:
    _post_all(session, options, "kill", signal=options["signal"])


def run_pause(session: Session, options: Options) -> None:
    _post_all(session, options, "pause")


def run_unpause(session: Session, options: Options) -> None:
    _post_all(session, options, "unpause")


def run_wait(session: Session, options: Options) -> None:
    for_each(options.arguments, lambda name: str(session.client.containers.wait(name)["StatusCode"]))


class EmptyName(ClientError):
    """Nothing is called that."""


@command(
    switch("force", "f", "Force the removal of a running container (uses SIGKILL)"),
    switch("link", "l", "Remove the specified link"),
    switch("volumes", "v", "Remove anonymous volumes associated with the container"),
)
def run_rm(session: Session, options: Options) -> None:
    force = options["force"]
    query = {"force": force, "v": options["volumes"], "link": options["link"]}

    def request(name: str) -> Request:
        name = name.strip("/")
        if not name:
            raise EmptyName("container name cannot be empty")
        return "DELETE", container_path(name), query

    def forgive(error: ClientError) -> bool:
        if force and isinstance(error, APIError) and error.not_found:
            print(error, file=sys.stderr)
            return True
        return False

    for_all(session, options.arguments, request, forgive)


def run_rename(session: Session, options: Options) -> None:
    old, new = (name.strip() for name in options.arguments)
    if not old or not new:
        raise CommandError("Error: Neither old nor new names may be empty")
    try:
        session.client.containers.rename(old, new)
    except ClientError as error:
        print(error, file=sys.stderr)
        raise CommandError(f"Error: failed to rename container named {old}") from None


def run_diff(session: Session, options: Options) -> None:
    name = options.arguments[0]
    if not name:
        raise CommandError("Container name cannot be empty")
    for change in session.client.containers.changes(name):
        print(KINDS[change["Kind"]], change["Path"])


@command(arguments=(1, None), interspersed=False)
def run_top(session: Session, options: Options) -> None:
    container, *arguments = options.arguments
    found = session.client.containers.top(container, " ".join(arguments))
    print(columns([found["Titles"], *(found["Processes"] or ())]))


def columns(rows: list[list[str]]) -> str:
    """Rows in columns; the last one is as wide as it is."""
    count = max((len(row) for row in rows), default=0)
    widths = [
        max(WIDTH, max((len(row[number]) for row in rows if number < len(row) - 1), default=0) + GAP)
        for number in range(count)
    ]
    return "\n".join(
        "".join(cell.ljust(widths[number]) for number, cell in enumerate(row[:-1])) + (row[-1] if row else "")
        for row in rows
    )


def run_port(session: Session, options: Options) -> None:
    name, *wanted = options.arguments
    ports = session.client.containers.inspect(name)["NetworkSettings"]["Ports"] or {}
    if wanted and wanted[0]:
        lines = _of_one(ports, wanted[0], name)
    else:
        lines = [f"{port} -> {_address(binding)}" for port, bindings in ports.items() for binding in bindings or ()]
    for line in sorted(lines, key=values.natural_key):
        print(line)


def _of_one(ports: dict[str, list[dict[str, str]] | None], wanted: str, container: str) -> list[str]:
    port, _, protocol = wanted.partition("/")
    try:
        values.parse_unsigned(port, 16)
    except ValueError as error:
        raise CommandError(f"Error: invalid port ({port}): {error}") from None
    bindings = ports.get(f"{port}/{protocol or 'tcp'}")
    if not bindings:
        raise CommandError(f"Error: No public port '{wanted}' published for {container}")
    return [_address(binding) for binding in bindings]


def _address(binding: dict[str, str]) -> str:
    address = binding["HostIp"]
    return f"[{address}]:{binding['HostPort']}" if ":" in address else f"{address}:{binding['HostPort']}"


# `wherry logs`.

_MOMENT = 'a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)'


@command(
    switch("details", "", "Show extra details provided to logs"),
    switch("follow", "f", "Follow log output"),
    string("since", "", f"Show logs since {_MOMENT.removeprefix('a ')}"),
    string("tail", "n", "Number of lines to show from the end of the logs", default="all"),
    switch("timestamps", "t", "Show timestamps"),
    string("until", "", f"Show logs before {_MOMENT}"),
)
def run_logs(session: Session, options: Options) -> None:
    from wherry.cli import terminal
    from wherry.client.streams import Demultiplexer, pass_on, write_all

    containers = session.client.containers
    container = containers.inspect(options.arguments[0])
    response = containers.logs(
        container["Id"],
        stdout=True,
        stderr=True,
        since=_moment(options, "since"),
        until=_moment(options, "until"),
        timestamps=options["timestamps"],
        follow=options["follow"],
        details=options["details"],
        tail=options["tail"],
    )
    if container["Config"]["Tty"]:
        pass_on(response, terminal.STDOUT)
        return
    outputs = {1: terminal.STDOUT, 2: terminal.STDERR}
    split = Demultiplexer(lambda stream, buffers: write_all(outputs[stream], buffers))
    while piece := response.piece():
        split.feed(piece)


def _moment(options: Options, name: str) -> str | None:
    from wherry.common.times import query_time

    try:
        return query_time(options[name]) or None
    except EngineError as error:
        raise CommandError(f'invalid value for "{name}": {error.message}') from None


# `ps` and `container ls`: the containers, a line each.

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
