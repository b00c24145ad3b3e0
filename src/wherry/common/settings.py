"""The daemon's settings in one table: its command line and daemon.json are read by it, help, completion and
docs/daemon.md come from it, and the engine's configuration has a field for each key that the engine reads.

Docker's that this engine does not have are in it as well, each with the reason; they may be said to be off.
"""

from __future__ import annotations

import os

from wherry.common import flags
from wherry.common.setting_kinds import (
    address,
    address_pools,
    features,
    integer,
    interface_address,
    label,
    listing,
    mirror,
    network_options,
    one_of,
    only_flag,
    pairs,
    refused,
    size,
    string,
    switch,
    ulimits,
)
from wherry.common.values import parse_domain

CONFIG_FILE = "/etc/wherry/daemon.json"
LEVELS = ("debug", "info", "warn", "error", "fatal")
RUNTIMES = ("wherry", "runc", "io.containerd.runc.v2")  # all of them mean this engine's own
# Keys of daemon.json whose value is an object; any other object only holds settings together.
OBJECTS = ("default-network-opts", "default-ulimits", "features", "log-opts", "runtimes")
_CERTIFICATES = os.environ.get("DOCKER_CERT_PATH") or os.path.expanduser("~/.docker")


def _feature(name: str, on: bool) -> None:
    if name in ("buildkit", "cdi"):
        return
    if name != "containerd-snapshotter":
        raise ValueError(f"unknown feature {name}: there are buildkit and cdi")
    if on:
        raise ValueError(f"wherry does not have the feature {name}")


def _cgroup_driver(text: str) -> str:
    if text != "native.cgroupdriver=cgroupfs":
        raise ValueError(f"unknown option: {text}: there is native.cgroupdriver=cgroupfs")
    return text


_PROCESS = (
    only_flag(flags.string("config-file", "", "The file that the settings are read from", CONFIG_FILE)),
    only_flag(flags.switch("validate", "", "Only say whether the settings are right")),
    only_flag(flags.switch("version", "v", "Print version information and quit")),
    only_flag(flags.switch("rootless", "", "Be the engine of the user whose namespaces these are: what an ordinary "
                           "user's says to itself")),
    only_flag(flags.integer("ready-fd", "", 'Write "ready" to this descriptor once serving', -1, hidden=True)),
    only_flag(flags.integer("lease-fd", "", "End when the other side of this descriptor is closed", -1, hidden=True)),
    only_flag(flags.string("scratch", "", "Remove this folder at the end", hidden=True)),
    string("data-root", "The folder of what outlives a restart of the machine", "/var/lib/wherry"),
    string("exec-root", "The folder of what does not outlive it", "/run/wherry"),
    string("pidfile", "Write the process id into this file", short="p"),
    switch("debug", "The same as --log-level=debug, and told in info", short="D", reloads=True),
    string("log-level", f"How much the engine says ({', '.join(LEVELS)})", "info",
           one_of(LEVELS, "invalid logging level: {}"), short="l"),
    string("log-format", "The form of its log (text, json)", "text",
           one_of(("text", "json"), "invalid log format: {}")),
    switch("raw-logs", "No colors, and full dates, on a terminal too"),
    listing("label", "KEY=VALUE, to describe this engine in info", check=label, reloads=True),
    switch("live-restore", "Containers outlive the engine; if not, it ends them when it ends", True, reloads=True),
    integer("shutdown-timeout", "Seconds that containers which do not outlive the engine get to end in (-1: any)", 15,
            least=-1, reloads=True),
    switch("experimental", "Tell clients that this is an experimental engine"),
    features("feature", "NAME=false: without buildkit, clients use the classic builder; without cdi, no device "
             "is found by its name", _feature, reloads=True),
)  # fmt: skip

_API = (
    listing("host", "Listen on unix://PATH, tcp://HOST:PORT or fd:// (systemd's sockets)", short="H"),
    string("group", 'Who may use a unix socket (default "docker", if there is such a group)', short="G"),
    switch("tls", "Use TLS for tcp://; --tls=false allows tcp:// without it", None),
    switch("tlsverify", "Use TLS, and let in only who shows a certificate"),
    string("tlscacert", "Who signs the clients' certificates", f"{_CERTIFICATES}/ca.pem"),
    string("tlscert", "The engine's certificate", f"{_CERTIFICATES}/cert.pem"),
    listing("authorization-plugin", "Ask this plug-in of every request and answer", reloads=True),
    string("metrics-addr", "Serve metrics for Prometheus at HOST:PORT"),
    string("tlskey", "The key of the engine's certificate", f"{_CERTIFICATES}/key.pem"),
)

_IPC = 'IPC mode "{}" is not supported as default value; use "shareable" or "private"'
_CGROUPNS = 'default cgroup namespace mode ({}) is invalid; use "host" or "private"'
_CONTAINERS = (
    switch("init", "Run an init in every container"),
    string("init-path", "A program of this host to be the init, in place of the engine's own"),
    string("log-driver", "How containers' output is kept", "json-file"),
    pairs("log-opt", "KEY=VALUE, an option of the log driver"),
    integer("default-stop-timeout", "Seconds between a container's stop signal and SIGKILL", 10, reloads=True),
    string("default-runtime", "By which name inspect calls what runs a container", "wherry",
           one_of(RUNTIMES, "unknown runtime {}: the engine runs containers itself"), reloads=True),
    ulimits("default-ulimit", "NAME=SOFT[:HARD], a limit of containers' processes"),
    size("default-shm-size", "The size of containers' /dev/shm", 64 << 20, "64MiB", reloads=True),
    string("default-ipc-mode", "Whether others may join a container's IPC namespace (private, shareable)", "private",
           one_of(("private", "shareable"), _IPC), reloads=True),
    string("default-cgroupns-mode", "Which cgroup namespace a container has (host, private)", "",
           one_of(("", "host", "private"), _CGROUPNS), reloads=True),
    string("default-userns-mode", "Which user namespace a container has (host, auto, auto:size=N)", "", reloads=True),
    string("userns-remap", "One user namespace for all containers: default, or a user (USER[:GROUP]) whose subordinate "
           "ids they have"),
    string("cgroup-parent", "The cgroup that containers' are made in (default /wherry)"),
    switch("no-new-privileges", "Containers' processes gain no privileges by executing a program"),
    string("seccomp-profile", "The seccomp profile of containers: a file, builtin, or unconfined for none", "builtin"),
    listing("exec-opt", "native.cgroupdriver=cgroupfs, which is the only one", check=_cgroup_driver),
    listing("cdi-spec-dir", 'Vendors\' files of devices for --device vendor.com/class=name (default /etc/cdi and '
            '/var/run/cdi; "" for none)'),
    listing("dns", "A name server for containers", "dns", address, kind="ipSlice"),
    listing("dns-opt", "An option of containers' resolver"),
    listing("dns-search", "A domain that containers look names up in", "dns-search", parse_domain),
    listing("host-gateway-ip", "What host-gateway in --add-host stands for (default this host on the bridge)",
            check=address),
)  # fmt: skip

_NETWORKS = (
    switch("icc", "Containers on the default network reach each other; if not, only by links", True),
    string("bip", "This host's address on the default network, ADDRESS/LENGTH", check=interface_address(4)),
    string("bip6", "This host's IPv6 address on the default network, ADDRESS/LENGTH", check=interface_address(6)),
    string("fixed-cidr", "Containers on the default network get addresses of this one", check=interface_address(4)),
    string(
        "fixed-cidr-v6", "Containers on the default network get IPv6 addresses of this one", check=interface_address(6)
    ),
    switch("ipv6", "The default network has IPv6"),
    string(
        "ip", "Ports are published at this address of the host from the default network", "0.0.0.0", address, kind="ip"
    ),
    switch("ip-masq", "What leaves the default network has this host's address", True),
    integer("mtu", "The MTU of the default network (default that of this host's interface)", least=0),
    address_pools("default-address-pool", "base=NETWORK,size=LENGTH: what networks' subnets are cut from"),
    network_options("default-network-opt", "DRIVER=OPTION=VALUE, an option of new networks"),
    switch("iptables", "Make rules of the firewall; if not, ports are forwarded by the engine", True),
    switch("ip-forward", "Have this host route between its interfaces", True),
    switch("userland-proxy", "Have the engine forward the ports that the firewall cannot", True),
)

_IMAGES = (
    string("storage-driver", "overlay2, which is the only one", "overlay2",
           one_of(("overlay2",), "there is no storage driver {}: only overlay2"), short="s"),
    listing("insecure-registry", "Reach this registry (a name or a network) without TLS", "insecure-registries",
            reloads=True),
    listing("registry-mirror", "Ask here before Docker Hub", check=mirror, reloads=True),
    integer("max-concurrent-downloads", "How many layers are downloaded at once", 16, least=1, reloads=True),
    integer("max-concurrent-uploads", "How many layers are uploaded at once", 5, least=1, reloads=True),
    integer("max-download-attempts", "How often a download is tried without getting on, before it fails", 5, least=1,
            reloads=True),
    string("http-proxy", "The proxy for http:// registries"),
    string("https-proxy", "The proxy for https:// registries"),
    string("no-proxy", "Names and networks that are reached without a proxy, with commas between"),
)  # fmt: skip

_NO_CONTAINERD = "the engine runs containers itself, there is no containerd"
_NO_SWARM = "there is no swarm mode"
_REFUSED = (
    refused(listing("add-runtime", "", "runtimes", kind="runtime"), "the engine runs containers itself, by no runtime"),
    refused(listing("allow-nondistributable-artifacts", "", "allow-nondistributable-artifacts"),
            "every layer that an image has is pushed"),
    refused(string("api-cors-header", ""), "for other sites' pages, put a proxy before the API"),
    refused(string("containerd", ""), _NO_CONTAINERD),
    refused(string("containerd-namespace", "", "moby"), _NO_CONTAINERD),
    refused(string("containerd-plugins-namespace", "", "plugins.moby"), _NO_CONTAINERD),
    refused(integer("cpu-rt-period", ""), "give --cpu-rt-period to a container"),
    refused(integer("cpu-rt-runtime", ""), "give --cpu-rt-runtime to a container"),
    refused(switch("cri-containerd", ""), _NO_CONTAINERD),
    refused(string("bridge", "", short="b"), "the default network has a bridge of its own: networks can have others"),
    refused(string("default-gateway", ""), "containers leave by this host's address: --bip sets it"),
    refused(string("default-gateway-v6", ""), "containers leave by this host's address: --bip6 sets it"),
    refused(integer("network-control-plane-mtu", "", 1500), _NO_SWARM),
    refused(listing("node-generic-resource", ""), _NO_SWARM),
    refused(switch("ip6tables", "", True), "--iptables=false makes no rules of either version"),
    refused(switch("selinux-enabled", ""), "containers get no SELinux labels"),
    refused(listing("storage-opt", ""), "overlayfs has no options here"),
    refused(string("swarm-default-advertise-addr", ""), _NO_SWARM),
    refused(string("userland-proxy-path", ""), "the engine forwards ports itself, by no program"),
)  # fmt: skip

GROUPS = {
    "The daemon": _PROCESS,
    "The API": _API,
    "Containers": _CONTAINERS,
    "Networks": _NETWORKS,
    "Images": _IMAGES,
    "Refused": _REFUSED,
}
SETTINGS = tuple(setting for group in GROUPS.values() for setting in group)


def daemon_flags() -> list[flags.Flag]:
    return [setting.flag for setting in SETTINGS]
