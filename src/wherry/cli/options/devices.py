"""`--device`, `--device-cgroup-rule`, `--gpus`, and the limits of block devices."""

from __future__ import annotations

import posixpath

from wherry.common import key_values, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def parse_device(text: str) -> dict[str, str]:
    """--device host[:container][:rwm] as the API's DeviceMapping. Raises ValueError with docker's words."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise ValueError(f"bad format for path: {text}")
    host, inside, mode = parts[0], "", "rwm"
    if len(parts) == 1:
        host = _clean(host)
    elif len(parts) == 2 and _is_mode(parts[1]):
        host, mode = _clean(host), parts[1]
    elif len(parts) == 2:
        inside = _clean(parts[1])
    else:
        inside, mode = parts[1], parts[2]
        if not _is_mode(mode):
            raise ValueError(f"bad mode specified: {mode}")
    if not (inside or host).startswith("/"):
        raise ValueError(f"{parts[1] if inside else parts[0]} is not an absolute path")
    return {"PathOnHost": host, "PathInContainer": inside or host, "CgroupPermissions": mode}


def _clean(path: str) -> str:
    path = posixpath.normpath(path)
    # POSIX keeps two leading slashes, Go does not.
    return path[1:] if path.startswith("//") else path


def _is_mode(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)


def is_cdi(text: str) -> bool:
    """Whether it names a device of the Container Device Interface: vendor.com/class=name."""
    import re

    word = r"[A-Za-z]([\w.-]*[A-Za-z0-9])?"
    return re.fullmatch(rf"{word}/{word}=[A-Za-z0-9]([\w.:-]*[A-Za-z0-9])?", text, re.ASCII) is not None


def cgroup_rule(text: str) -> str:
    import re

    if not re.fullmatch(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}", text):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def parse_gpus(text: str) -> dict[str, Any]:
    """--gpus all, 2 or device=0,capabilities=… as the API's DeviceRequest."""
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    seen = set()
    for field in key_values.fields(text):
        key, equals, value = field.partition("=")
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if not equals:
            seen.add("count")
            request["Count"] = _count(key)
        elif key == "driver":
            request["Driver"] = value
        elif key == "count":
            request["Count"] = _count(value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        elif key == "options":
            try:
                pairs = key_values.fields(value)
            except ValueError as error:
                raise ValueError(f"failed to read gpu options: {error}") from None
            request["Options"] = dict(pair.partition("=")[::2] for pair in pairs)
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if "count" not in seen and request["DeviceIDs"] is None:
        request["Count"] = 1
    return request


def _count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return values.parse_int(text, function="Atoi")
    except ValueError as error:
        reason = str(error).rpartition(": ")[2]
        raise ValueError(f'invalid count ({text}): value must be either "all" or an integer: {reason}') from None


def _path_and_limit(text: str) -> tuple[str, str]:
    path, colon, limit = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, limit


def weight(text: str) -> dict[str, Any]:
    """--blkio-weight-device /dev/sda:200"""
    path, limit = _path_and_limit(text)
    try:
        number = values.parse_unsigned(limit, 16)
    except ValueError:
        number = -1
    if number != 0 and not 10 <= number <= 1000:
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": number}


def bytes_per_second(text: str) -> dict[str, Any]:
    """--device-read-bps /dev/sda:1mb"""
    from wherry.common.sizes import parse_size

    unit = "[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
    return _rate(text, parse_size, unit)


def operations_per_second(text: str) -> dict[str, Any]:
    """--device-read-iops /dev/sda:1000"""
    return _rate(text, values.parse_unsigned, ". Number must be a positive integer")


def _rate(text: str, parse: Callable[[str], int], unit: str) -> dict[str, Any]:
    path, limit = _path_and_limit(text)
    try:
        return {"Path": path, "Rate": parse(limit)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>{unit}"
        ) from None
