"""`wherry port`."""

from __future__ import annotations

from wherry.cli import values
from wherry.cli.command import Command, CommandError, between

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Session
    from wherry.cli.flags import Options


def run_port(session: Session, options: Options) -> None:
    name, *wanted = options.arguments
    ports = session.client.containers.inspect(name)["NetworkSettings"]["Ports"] or {}
    if wanted and wanted[0]:
        lines = _of_one(ports, wanted[0], name)
    else:
        lines = [f"{port} -> {_address(binding)}" for port, bindings in ports.items() for binding in bindings or ()]
    for line in sorted(lines, key=_natural):
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


def _natural(text: str) -> list[tuple[int, int]]:
    """A key by which 80/tcp comes before 443/tcp: numbers by their value, all else by its letters."""
    parts: list[tuple[int, int]] = []
    digits = ""
    for char in text + "\0":
        if char.isdigit():
            digits += char
            continue
        if digits:
            parts.append((ord("0"), int(digits)))
            digits = ""
        parts.append((ord(char), 0))
    return parts


PORT = Command(
    "port CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    run_port,
    arguments=between(1, 2),
    aliases="wherry container port, wherry port",
)
