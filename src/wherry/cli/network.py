"""`network`: make, list and remove networks, and connect containers to them."""

from __future__ import annotations

import sys

from wherry.cli.session import CommandError, Session, command, for_all
from wherry.cli.table import Listing, Row, chosen_format
from wherry.client.client import network_path
from wherry.common import flags
from wherry.common.flags import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
    from typing import Any

    from wherry.client.transport import ClientError

RAW_FORMAT = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"


def _created(row: Row) -> str:
    moment, _, rest = str(row["Created"] or "").replace("T", " ").partition("Z")
    return f"{moment} +0000 UTC{rest}"


NETWORKS = Listing(
    "*network.networkContext",
    "ID Name Driver Scope",
    {
        "ID": ("NETWORK ID", Row.id),
        "Name": ("NAME", "Name"),
        "Driver": ("DRIVER", "Driver"),
        "Scope": ("SCOPE", "Scope"),
        "IPv4": ("IPV4", lambda row: _truth(row["EnableIPv4"])),
        "IPv6": ("IPV6", lambda row: _truth(row["EnableIPv6"])),
        "Internal": ("INTERNAL", lambda row: _truth(row["Internal"])),
        "Labels": ("LABELS", Row.labels),
        "CreatedAt": ("CREATED AT", _created),
    },
)


def _truth(value: object) -> str:
    return "true" if value else "false"


@command(
    flags.switch("attachable", "", "Enable manual container attachment"),
    flags.pairs("aux-address", "", "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
    flags.string("config-from", "", "The network from which to copy the configuration"),
    flags.switch("config-only", "", "Create a configuration only network"),
    flags.string("driver", "d", "Driver to manage the Network", default="bridge"),
    flags.strings("gateway", "", "IPv4 or IPv6 Gateway for the master subnet", kind="strings"),
    flags.switch("ingress", "", "Create swarm routing-mesh network"),
    flags.switch("internal", "", "Restrict external access to the network"),
    flags.strings("ip-range", "", "Allocate container ip from a sub-range", kind="strings"),
    flags.string("ipam-driver", "", "IP Address Management Driver", default="default"),
    flags.pairs("ipam-opt", "", "Set IPAM driver specific options"),
    flags.switch("ipv4", "", "Enable or disable IPv4 address assignment", default=True),
    flags.switch("ipv6", "", "Enable or disable IPv6 address assignment"),
    flags.strings("label", "", "Set metadata on a network"),
    flags.pairs("opt", "o", "Set driver specific options"),
    flags.string("scope", "", "Control the network's scope"),
    flags.strings("subnet", "", "Subnet in CIDR format that represents a network segment", kind="strings"),
)
def run_create(session: Session, options: Options) -> None:
    body: dict[str, Any] = {
        "Name": options.arguments[0],
        "Driver": options["driver"],
        "Scope": options["scope"],
        "Internal": options["internal"],
        "Attachable": options["attachable"],
        "Ingress": options["ingress"],
        "ConfigOnly": options["config-only"],
        "ConfigFrom": {"Network": options["config-from"]} if options["config-from"] else None,
        "Options": options["opt"],
        "Labels": dict(label.partition("=")[::2] for label in options["label"]),
    }
    ipam = {"Driver": options["ipam-driver"], "Options": options["ipam-opt"], "Config": _pools(options)}
    if options["ipam-driver"] != "default" or ipam["Options"] or ipam["Config"]:
        body["IPAM"] = ipam
    for name, field in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if options.changed(name):
            body[field] = options[name]
    print(session.client.networks.create(body))


def _pools(options: Options) -> list[dict[str, Any]]:
    """The subnets, each with what of the other flags lies in it. Raises CommandError with docker's words."""

    def split(name: str) -> list[str]:
        return [part for text in options[name] for part in text.split(",")]

    subnets = {text: _network(text) for text in split("subnet")}
    pools: dict[str, dict[str, Any]] = {text: {"Subnet": text} for text in subnets}
    placed = [("IPRange", "range", text, _network(text)[0], text) for text in split("ip-range")]
    placed += [("Gateway", "gateway", text, _address(text), text) for text in split("gateway")]
    placed += [("Aux", "aux-address", name, _address(at), at) for name, at in options["aux-address"].items()]
    if not subnets and (options["ip-range"] or options["gateway"]):
        raise CommandError("every ip-range or gateway must have a corresponding subnet")
    for field, word, name, address, value in placed:
        home = next((text for text, net in subnets.items() if address.version == net.version and address in net), None)
        if home is None:
            raise CommandError(f"no matching subnet for {word} {value}")
        if field == "Aux":
            pools[home].setdefault("AuxiliaryAddresses", {})[name] = value
        elif field in pools[home]:
            raise CommandError(f"cannot configure multiple {word}s ({value}, {pools[home][field]}) on the same subnet")
        else:
            pools[home][field] = value
    return list(pools.values())


def _network(text: str) -> IPv4Network | IPv6Network:
    from ipaddress import ip_network

    try:
        if "/" not in text:
            raise ValueError
        return ip_network(text, strict=False)
    except ValueError:
        raise CommandError(f"invalid CIDR address: {text}") from None


def _address(text: str) -> IPv4Address | IPv6Address:
    from ipaddress import ip_address

    try:
        return ip_address(text)
    except ValueError:
        raise CommandError(f"invalid IP address: {text}") from None


@command(
    flags.filters('Provide filter values (e.g. "driver=bridge")'),
    flags.listing(),
    flags.switch("no-trunc", "", "Do not truncate the output"),
    flags.switch("quiet", "q", "Only display network IDs"),
)
def run_ls(session: Session, options: Options) -> None:
    networks = session.client.networks.list(options["filter"])
    format = chosen_format(session, options, "networksFormat", raw=RAW_FORMAT)
    networks.sort(key=lambda network: str(network["Name"]))
    rows = [Row(NETWORKS, network, not options["no-trunc"]) for network in networks]
    sys.stdout.write(NETWORKS.text(rows, format))


@command(flags.switch("force", "f", "Do not error if the network does not exist"))
def run_rm(session: Session, options: Options) -> None:
    from wherry.client.transport import APIError

    def forgive(error: ClientError) -> bool:
        return options["force"] and isinstance(error, APIError) and error.not_found

    for_all(session, options.arguments, lambda name: ("DELETE", network_path(name), {}), forgive)


@command(
    flags.strings("alias", "", "Add network-scoped alias for the container", kind="strings"),
    flags.strings("driver-opt", "", "driver options for the network", kind="strings"),
    flags.integer(
        "gw-priority", "", "Highest gw-priority provides the default gateway. Accepts positive and negative values."
    ),
    flags.string("ip", "", 'IPv4 address (e.g., "172.30.100.104")'),
    flags.string("ip6", "", 'IPv6 address (e.g., "2001:db8::33")'),
    flags.strings("link", "", "Add link to another container"),
    flags.strings("link-local-ip", "", "Add a link-local address for the container", kind="strings"),
)
def run_connect(session: Session, options: Options) -> None:
    network, container = options.arguments
    address = {
        "IPv4Address": options["ip"],
        "IPv6Address": options["ip6"],
        "LinkLocalIPs": [part for text in options["link-local-ip"] for part in text.split(",")],
    }
    driver_options = [part for text in options["driver-opt"] for part in text.split(",")]
    for option in driver_options:
        if "=" not in option:
            raise CommandError("invalid key/value pair format in driver options")
    endpoint = {
        "IPAMConfig": {key: value for key, value in address.items() if value} or None,
        "Links": options["link"] or None,
        "Aliases": [part for text in options["alias"] for part in text.split(",")] or None,
        "DriverOpts": dict(option.partition("=")[::2] for option in driver_options) or None,
        "GwPriority": options["gw-priority"],
    }
    session.client.networks.connect(network, container, endpoint)


@command(flags.switch("force", "f", "Force the container to disconnect from a network"))
def run_disconnect(session: Session, options: Options) -> None:
    network, container = options.arguments
    session.client.networks.disconnect(network, container, force=options["force"])
