"""The flags of `run` and `create` as the body of POST /containers/create: the same that docker sends for them.

Every field is there, as an engine may tell a field that is empty from one that is not sent.
"""

from __future__ import annotations

import os

from wherry.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.flags import Options

    Body = dict[str, Any]


def build(options: Options, image: str, command: list[str], proxies: dict[str, str]) -> Body:
    """The body for `image` and `command`; `proxies` are environment variables that give way to what was given.

    Raises ValueError, in docker's words, for flags that are wrong or contradict each other.
    """
    _check_alone(options)
    mounts = _Mounts(options)
    ports = _published(options)
    host = _host_config(options, mounts, ports)
    networks = _endpoints(options)
    body: Body = {
        "Hostname": options["hostname"],
        "Domainname": options["domainname"],
        "User": options["user"],
        **_streams(options),
        "Tty": options["tty"],
        "OpenStdin": options["interactive"],
        "StdinOnce": False,
        "Env": _environment(options, proxies) or None,
        "Cmd": command or None,
        "Image": image,
        "Volumes": mounts.anonymous,
        "WorkingDir": options["workdir"],
        "Entrypoint": _entrypoint(options),
        "OnBuild": None,
        "Labels": _labels(options),
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": networks},
    }
    body["StdinOnce"] = body["OpenStdin"] and body["AttachStdin"]
    exposed: dict[str, Body] = {port: {} for port in (*ports, *_exposed(options))}
    if exposed:
        body["ExposedPorts"] = exposed
    health = _health(options)
    if health:
        body["Healthcheck"] = health
    if options["stop-signal"]:
        body["StopSignal"] = options["stop-signal"]
    if options.changed("stop-timeout"):
        body["StopTimeout"] = options["stop-timeout"]
    return body


def _check_alone(options: Options) -> None:
    """What is wrong with a flag whatever the others are."""
    if options["mac-address"]:
        from wherry.cli.syntax.networks import is_mac

        if not is_mac(options["mac-address"].strip()):
            raise ValueError(f"{options['mac-address']} is not a valid mac address")
    swappiness = options["memory-swappiness"]
    if not -1 <= swappiness <= 100:
        raise ValueError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")


def _streams(options: Options) -> Body:
    chosen: list[str] = options["attach"]
    return {
        "AttachStdin": "stdin" in chosen or options["interactive"],
        "AttachStdout": "stdout" in chosen or not chosen,
        "AttachStderr": "stderr" in chosen or not chosen,
    }


class _Mounts:
    """-v: what is bound, and what is an anonymous volume of the image's kind."""

    def __init__(self, options: Options) -> None:
        self.binds: list[str] = []
        self.anonymous: dict[str, Body] = {}
        if not options["volume"]:
            return
        from wherry.cli.syntax.mounts import parse_volume

        for spec in dict.fromkeys(options["volume"]):
            volume = parse_volume(spec)
            if volume.source:
                self.binds.append(volume.bind)
            else:
                self.anonymous[spec] = {}


def _published(options: Options) -> dict[str, list[dict[str, str]]]:
    if not options["publish"]:
        return {}
    from wherry.cli.syntax.ports import parse_published

    return parse_published(options["publish"])


def _exposed(options: Options) -> list[str]:
    if not options["expose"]:
        return []
    from wherry.cli.syntax.ports import parse_exposed

    return parse_exposed(options["expose"])


def _environment(options: Options, proxies: dict[str, str]) -> list[str]:
    # As docker does: of -e the last of a name counts, and a name without a value removes it in the container.
    given: dict[str, str] = {}
    for pair in options["env"]:
        given[pair.partition("=")[0]] = pair
    for name, value in proxies.items():
        given.setdefault(name, f"{name}={value}")
    if not options["env-file"]:
        return list(given.values())
    from wherry.cli.syntax.process import read_files

    return read_files(options["env-file"], list(given.values()), os.environ.get)


def _labels(options: Options) -> dict[str, str]:
    if not options["label"] and not options["label-file"]:
        return {}
    from wherry.cli.syntax.process import mapping, read_files

    return mapping(read_files(options["label-file"], options["label"], None))


def _entrypoint(options: Options) -> list[str] | None:
    if options["entrypoint"]:
        return [options["entrypoint"]]
    # Given and empty: the image's is to be forgotten.
    return [""] if options.changed("entrypoint") else None


def _health(options: Options) -> Body:
    command: str = options["health-cmd"]
    settings = {
        "Interval": ("health-interval", options["health-interval"]),
        "Timeout": ("health-timeout", options["health-timeout"]),
        "StartPeriod": ("health-start-period", options["health-start-period"]),
        "StartInterval": ("health-start-interval", options["health-start-interval"]),
        "Retries": ("health-retries", options["health-retries"]),
    }
    given = {field: value for field, (_, value) in settings.items() if value}
    if options["no-healthcheck"]:
        if command or given:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    for flag, value in settings.values():
        if value < 0:
            raise ValueError(f"--{flag} cannot be negative")
    if command:
        given["Test"] = ["CMD-SHELL", command]
    return given


def _host_config(options: Options, mounts: _Mounts, ports: dict[str, list[dict[str, str]]]) -> Body:
    devices, requests = _devices(options)
    _check_modes(options)
    restart = _restart(options)
    log = _log(options)
    security, unmasked = _security(options)
    storage = _storage(options)
    network: str = options["network"][0].target if options["network"] else "default"
    if options["rm"] and restart["Name"] not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    host: Body = {
        "Binds": mounts.binds or None,
        "ContainerIDFile": options["cidfile"],
        "LogConfig": log,
        "NetworkMode": network,
        "PortBindings": ports,
        "RestartPolicy": restart,
        "AutoRemove": options["rm"],
        "VolumeDriver": options["volume-driver"],
        "VolumesFrom": options["volumes-from"] or None,
        "ConsoleSize": list(terminal.size()),
        "CapAdd": _capabilities(options["cap-add"]),
        "CapDrop": _capabilities(options["cap-drop"]),
        "CgroupnsMode": options["cgroupns"],
        "Dns": options["dns"],
        "DnsOptions": options["dns-option"],
        "DnsSearch": options["dns-search"],
        "ExtraHosts": options["add-host"] or None,
        "GroupAdd": options["group-add"] or None,
        "IpcMode": options["ipc"],
        "Cgroup": "",
        "Links": options["link"] or None,
        "OomScoreAdj": options["oom-score-adj"],
        "PidMode": options["pid"],
        "Privileged": options["privileged"],
        "PublishAllPorts": options["publish-all"],
        "ReadonlyRootfs": options["read-only"],
        "SecurityOpt": security or None,
        "UTSMode": options["uts"],
        "UsernsMode": options["userns"],
        "ShmSize": options["shm-size"],
        "Isolation": options["isolation"],
        **_resources(options),
        "Devices": devices,
        "DeviceCgroupRules": options["device-cgroup-rule"] or None,
        "DeviceRequests": requests or None,
        "MaskedPaths": [] if unmasked else None,
        "ReadonlyPaths": [] if unmasked else None,
    }
    for field, value in (
        ("StorageOpt", storage),
        ("Tmpfs", _tmpfs(options)),
        ("Sysctls", options["sysctl"]),
        ("Runtime", options["runtime"]),
        ("Mounts", options["mount"]),
        ("Annotations", options["annotation"]),
    ):
        if value:
            host[field] = value
    if options.changed("init"):
        host["Init"] = options["init"]
    return host


def _resources(options: Options) -> Body:
    return {
        "CpuShares": options["cpu-shares"],
        "Memory": options["memory"],
        "NanoCpus": options["cpus"],
        "CgroupParent": options["cgroup-parent"],
        "BlkioWeight": options["blkio-weight"],
        "BlkioWeightDevice": options["blkio-weight-device"],
        "BlkioDeviceReadBps": options["device-read-bps"],
        "BlkioDeviceWriteBps": options["device-write-bps"],
        "BlkioDeviceReadIOps": options["device-read-iops"],
        "BlkioDeviceWriteIOps": options["device-write-iops"],
        "CpuPeriod": options["cpu-period"],
        "CpuQuota": options["cpu-quota"],
        "CpuRealtimePeriod": options["cpu-rt-period"],
        "CpuRealtimeRuntime": options["cpu-rt-runtime"],
        "CpusetCpus": options["cpuset-cpus"],
        "CpusetMems": options["cpuset-mems"],
        "MemoryReservation": options["memory-reservation"],
        "MemorySwap": options["memory-swap"],
        "MemorySwappiness": options["memory-swappiness"],
        "OomKillDisable": options["oom-kill-disable"],
        "PidsLimit": options["pids-limit"],
        "Ulimits": options["ulimit"],
        "CpuCount": options["cpu-count"],
        "CpuPercent": options["cpu-percent"],
        "IOMaximumIOps": options["io-maxiops"],
        "IOMaximumBandwidth": options["io-maxbandwidth"],
    }


def _capabilities(given: list[str]) -> list[str] | None:
    """By their whole names, each once, in order."""
    names = {name.strip().upper() for name in given}
    whole = {name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in names}
    return sorted(whole) or None


def _check_modes(options: Options) -> None:
    pid: str = options["pid"]
    if pid not in ("", "host") and not (pid.startswith("container:") and pid != "container:"):
        raise ValueError("--pid: invalid PID mode")
    for flag, allowed, kind in (
        ("uts", ("", "host"), "UTS"),
        ("userns", ("", "host"), "USER"),
        ("cgroupns", ("", "host", "private"), "CGROUP"),
    ):
        if options[flag] not in allowed:
            raise ValueError(f"--{flag}: invalid {kind} mode")


def _restart(options: Options) -> Body:
    policy: str = options["restart"]
    if policy in ("", "no"):
        return {"Name": policy, "MaximumRetryCount": 0}
    from wherry.cli.syntax.process import restart_policy

    return restart_policy(policy)


def _log(options: Options) -> Body:
    driver, given = options["log-driver"], options["log-opt"]
    if driver == "none" and given:
        raise ValueError(f"invalid logging opts for driver {driver}")
    return {"Type": driver, "Config": dict(pair.partition("=")[::2] for pair in given)}


def _security(options: Options) -> tuple[list[str], bool]:
    """What goes to the engine, and whether no path is to be masked: that option is made here."""
    if not options["security-opt"]:
        return [], False
    from wherry.cli.syntax.process import security_options

    given = security_options(options["security-opt"])
    kept = [option for option in given if option != "systempaths=unconfined"]
    return kept, len(kept) != len(given)


def _storage(options: Options) -> dict[str, str]:
    for option in options["storage-opt"]:
        if "=" not in option:
            raise ValueError("invalid storage option")
    return dict(option.partition("=")[::2] for option in options["storage-opt"])


def _tmpfs(options: Options) -> dict[str, str]:
    return dict(option.partition(":")[::2] for option in options["tmpfs"])


def _devices(options: Options) -> tuple[list[dict[str, str]], list[Body]]:
    requests: list[Body] = list(options["gpus"])
    if not options["device"]:
        return [], requests
    from wherry.cli.syntax.devices import is_cdi, parse_device

    named = [device for device in options["device"] if is_cdi(device)]
    if named:
        requests.append({"Driver": "cdi", "Count": 0, "DeviceIDs": named, "Capabilities": None, "Options": None})
    return [parse_device(device) for device in options["device"] if device not in named], requests


def _endpoints(options: Options) -> dict[str, Body]:
    """--network and the older flags that say something of the first network."""
    from wherry.cli.syntax.networks import Attachment, endpoint, is_user_defined

    chosen: list[Attachment] = options["network"]
    attachments = chosen or [Attachment("default")]
    _apply_older(options, attachments[0])
    endpoints: dict[str, Body] = {}
    for attachment in attachments:
        settings = endpoint(attachment)
        if attachment.target in endpoints:
            raise ValueError(f'network "{attachment.target}" is specified multiple times')
        # A single network by its name alone: the engine finds it in the host configuration.
        if len(chosen) == 1 and not any(settings.values()):
            continue
        endpoints[attachment.target] = settings
    kinds = {is_user_defined(attachment.target) for attachment in chosen}
    if len(kinds) > 1:
        raise ValueError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    return endpoints


def _apply_older(options: Options, first: Any) -> None:
    from wherry.cli.syntax.networks import is_user_defined

    for flag, given, other in (
        ("network-alias", first.aliases, "alias"),
        ("link", first.links, "links"),
        ("ip", first.ipv4, "IPv4 address"),
        ("ip6", first.ipv6, "IPv6 address"),
        ("mac-address", first.mac, "MAC address"),
        ("link-local-ip", first.link_local, "link-local IP addresses"),
    ):
        if given and options[flag]:
            raise ValueError(f"conflicting options: cannot specify both --{flag} and per-network {other}")
    first.aliases = options["network-alias"] or first.aliases
    if is_user_defined(first.target):
        first.links = options["link"] or first.links
    first.ipv4 = options["ip"] or first.ipv4
    first.ipv6 = options["ip6"] or first.ipv6
    first.mac = options["mac-address"] or first.mac
    first.link_local = options["link-local-ip"] or first.link_local
