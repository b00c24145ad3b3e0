"""The flags of `run` and `create` as the body of POST /containers/create: the same that docker sends for them.

Every field is there, as an engine may tell a field that is empty from one that is not sent.
"""

from __future__ import annotations

import os

from wherry.cli import terminal
from wherry.cli.commands import syntax
from wherry.common.flags import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Body = dict[str, Any]


def _table(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


# The API's fields, and the flags that are their values.
_CONFIG = _table("Hostname=hostname Domainname=domainname User=user Tty=tty OpenStdin=interactive WorkingDir=workdir")
_HOST = _table("""
    AutoRemove=rm CgroupnsMode=cgroupns ContainerIDFile=cidfile Dns=dns DnsOptions=dns-option DnsSearch=dns-search
    IpcMode=ipc Isolation=isolation OomScoreAdj=oom-score-adj PidMode=pid Privileged=privileged
    PublishAllPorts=publish-all ReadonlyRootfs=read-only ShmSize=shm-size UTSMode=uts UsernsMode=userns
    VolumeDriver=volume-driver BlkioDeviceReadBps=device-read-bps BlkioDeviceReadIOps=device-read-iops
    BlkioDeviceWriteBps=device-write-bps BlkioDeviceWriteIOps=device-write-iops BlkioWeightDevice=blkio-weight-device
    CgroupParent=cgroup-parent CpuCount=cpu-count CpuPercent=cpu-percent IOMaximumBandwidth=io-maxbandwidth
    IOMaximumIOps=io-maxiops MemorySwappiness=memory-swappiness OomKillDisable=oom-kill-disable PidsLimit=pids-limit
    Ulimits=ulimit
""")
# Those that `update` changes.
RESOURCES = _table("""
    BlkioWeight=blkio-weight CpuPeriod=cpu-period CpuQuota=cpu-quota CpuRealtimePeriod=cpu-rt-period
    CpuRealtimeRuntime=cpu-rt-runtime CpuShares=cpu-shares CpusetCpus=cpuset-cpus CpusetMems=cpuset-mems Memory=memory
    MemoryReservation=memory-reservation MemorySwap=memory-swap NanoCpus=cpus
""")
# Null where there is nothing.
_OR_NULL = _table("""
    DeviceCgroupRules=device-cgroup-rule ExtraHosts=add-host GroupAdd=group-add Links=link VolumesFrom=volumes-from
""")
# Left out where there is nothing.
_OR_ABSENT = _table("Annotations=annotation Mounts=mount Runtime=runtime Sysctls=sysctl")


def taken(options: Options, table: dict[str, str]) -> Body:
    return {field: options[flag] for field, flag in table.items()}


def build(options: Options, image: str, command: list[str], proxies: dict[str, str]) -> Body:
    """The body for `image` and `command`; `proxies` are environment variables that give way to what was given.

    Raises ValueError, in docker's words, for flags that are wrong or contradict each other.
    """
    _check_alone(options)
    binds, anonymous = _volumes(options)
    ports, exposed = _ports(options)
    host = _host_config(options, binds, ports)
    networks = _endpoints(options)
    body: Body = {
        **taken(options, _CONFIG),
        **_streams(options),
        "Env": _environment(options, proxies) or None,
        "Cmd": command or None,
        "Image": image,
        "Volumes": anonymous,
        "Entrypoint": _entrypoint(options),
        "OnBuild": None,
        "Labels": _labels(options),
        "HostConfig": host,
        "NetworkingConfig": {"EndpointsConfig": networks},
    }
    body["StdinOnce"] = body["OpenStdin"] and body["AttachStdin"]
    if ports or exposed:
        body["ExposedPorts"] = {port: {} for port in (*ports, *exposed)}
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
        from wherry.cli.options.networks import is_mac

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


def _volumes(options: Options) -> tuple[list[str], dict[str, Body]]:
    """-v: what is bound, and what is an anonymous volume of the image's kind."""
    if not options["volume"]:
        return [], {}
    from wherry.cli.options.mounts import parse_volume

    volumes = {spec: parse_volume(spec) for spec in dict.fromkeys(options["volume"])}
    binds = [volume.bind for volume in volumes.values() if volume.source]
    return binds, {spec: {} for spec, volume in volumes.items() if not volume.source}


def _parsed(options: Options, flag: str, place: str) -> Any:
    """What a function of syntax/ makes of a flag's texts; None where it is not given."""
    return syntax(place)(options[flag]) if options[flag] else None


def _ports(options: Options) -> tuple[dict[str, list[dict[str, str]]], list[str]]:
    """What --publish and --expose ask for."""
    if not (options["publish"] or options["expose"]):
        return {}, []
    from wherry.common.ports import parse_exposed, parse_published

    return parse_published(options["publish"]), parse_exposed(options["expose"])


def _environment(options: Options, proxies: dict[str, str]) -> list[str]:
    # As docker does: of -e the last of a name counts, and a name without a value removes it in the container.
    given: dict[str, str] = {}
    for pair in options["env"]:
        given[pair.partition("=")[0]] = pair
    for name, value in proxies.items():
        given.setdefault(name, f"{name}={value}")
    if not options["env-file"]:
        return list(given.values())
    from wherry.cli.options.process import read_files

    return read_files(options["env-file"], list(given.values()), os.environ.get)


def _labels(options: Options) -> dict[str, str]:
    given = options["label"]
    if options["label-file"]:
        from wherry.cli.options.process import read_files

        given = read_files(options["label-file"], given, None)
    return dict(pair.partition("=")[::2] for pair in given)


def _entrypoint(options: Options) -> list[str] | None:
    if options["entrypoint"]:
        return [options["entrypoint"]]
    # Given and empty: the image's is to be forgotten.
    return [""] if options.changed("entrypoint") else None


def _health(options: Options) -> Body:
    command: str = options["health-cmd"]
    given: Body = {}
    for word in ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"):
        flag = "health-" + word.replace("tP", "t-p").replace("tI", "t-i").lower()
        if options[flag] < 0 and not options["no-healthcheck"]:
            raise ValueError(f"--{flag} cannot be negative")
        if options[flag]:
            given[word] = options[flag]
    if options["no-healthcheck"]:
        if command or given:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    return given | ({"Test": ["CMD-SHELL", command]} if command else {})


def _host_config(options: Options, binds: list[str], ports: dict[str, list[dict[str, str]]]) -> Body:
    devices, requests = _devices(options)
    _check_modes(options)
    restart = restart_policy(options["restart"])
    log = _log(options)
    security, unmasked = _security(options)
    storage = _storage(options)
    if options["rm"] and restart["Name"] not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    rare = {
        **taken(options, _OR_ABSENT),
        "StorageOpt": storage,
        "IDMappings": {
            field: options[flag] for field, flag in (("UidMap", "uidmap"), ("GidMap", "gidmap")) if options[flag]
        },
        "Tmpfs": dict(option.partition(":")[::2] for option in options["tmpfs"]),
    }
    return {
        **taken(options, _HOST),
        **taken(options, RESOURCES),
        **{field: value or None for field, value in taken(options, _OR_NULL).items()},
        "Binds": binds or None,
        "LogConfig": log,
        "NetworkMode": options["network"][0].target if options["network"] else "default",
        "PortBindings": ports,
        "RestartPolicy": restart,
        "ConsoleSize": list(terminal.size()),
        "CapAdd": _capabilities(options["cap-add"]),
        "CapDrop": _capabilities(options["cap-drop"]),
        "Cgroup": "",
        "SecurityOpt": security or None,
        "Devices": devices,
        "DeviceRequests": requests or None,
        "MaskedPaths": [] if unmasked else None,
        "ReadonlyPaths": [] if unmasked else None,
        **{field: value for field, value in rare.items() if value},
        **({"Init": options["init"]} if options.changed("init") else {}),
    }


def _capabilities(given: list[str]) -> list[str] | None:
    """Capabilities by their whole names, each once, in order."""
    names = {name.strip().upper() for name in given}
    whole = {name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in names}
    return sorted(whole) or None


def _check_modes(options: Options) -> None:
    pid: str = options["pid"]
    if pid not in ("", "host") and not (pid.startswith("container:") and pid != "container:"):
        raise ValueError("--pid: invalid PID mode")
    for flag, allowed, kind in (
        ("uts", ("", "host"), "UTS"),
        ("cgroupns", ("", "host", "private"), "CGROUP"),
    ):
        if options[flag] not in allowed:
            raise ValueError(f"--{flag}: invalid {kind} mode")


def restart_policy(text: str) -> Body:
    """The API's RestartPolicy of always or on-failure:3. Raises ValueError."""
    if text in ("", "no"):
        return {"Name": text, "MaximumRetryCount": 0}
    policy: Body = syntax("process.restart_policy")(text)
    return policy


def _log(options: Options) -> Body:
    driver, given = options["log-driver"], options["log-opt"]
    if driver == "none" and given:
        raise ValueError(f"invalid logging opts for driver {driver}")
    return {"Type": driver, "Config": dict(pair.partition("=")[::2] for pair in given)}


def _security(options: Options) -> tuple[list[str], bool]:
    """What goes to the engine, and whether no path is to be masked: that option is made here."""
    given: list[str] = _parsed(options, "security-opt", "process.security_options") or []
    kept = [option for option in given if option != "systempaths=unconfined"]
    return kept, len(kept) != len(given)


def _storage(options: Options) -> dict[str, str]:
    for option in options["storage-opt"]:
        if "=" not in option:
            raise ValueError("invalid storage option")
    return dict(option.partition("=")[::2] for option in options["storage-opt"])


def _devices(options: Options) -> tuple[list[dict[str, str]], list[Body]]:
    requests: list[Body] = list(options["gpus"])
    if not options["device"]:
        return [], requests
    from wherry.cli.options.devices import is_cdi, parse_device

    named = [device for device in options["device"] if is_cdi(device)]
    if named:
        requests.append({"Driver": "cdi", "Count": 0, "DeviceIDs": named, "Capabilities": None, "Options": None})
    return [parse_device(device) for device in options["device"] if device not in named], requests


def _endpoints(options: Options) -> dict[str, Body]:
    """--network and the older flags that say something of the first network."""
    from wherry.cli.options.networks import Attachment, endpoint, is_user_defined

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
    from wherry.cli.options.networks import is_user_defined

    for flag, attribute, other in (
        ("network-alias", "aliases", "alias"),
        ("link", "links", "links"),
        ("ip", "ipv4", "IPv4 address"),
        ("ip6", "ipv6", "IPv6 address"),
        ("mac-address", "mac", "MAC address"),
        ("link-local-ip", "link_local", "link-local IP addresses"),
    ):
        if not options[flag]:
            continue
        if getattr(first, attribute):
            raise ValueError(f"conflicting options: cannot specify both --{flag} and per-network {other}")
        if flag != "link" or is_user_defined(first.target):
            setattr(first, attribute, options[flag])
