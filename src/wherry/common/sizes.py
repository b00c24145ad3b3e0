"""Sizes as people write them ("512m", "1.5 GiB") and read them ("1.98MB"): those of github.com/docker/go-units."""

from __future__ import annotations

from wherry.common.values import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_size(text: str, kilo: int = 1024) -> int:
    """Bytes, from text like 512, 64k, 1.5 GiB. The options of logs count in powers of 1000. Raises ValueError."""
    last = max((text.rfind(char) for char in "0123456789. "), default=-1)
    if last < 0:
        raise ValueError(f"invalid size: '{text}'")
    number, suffix = (text[:last] if text[last] == " " else text[: last + 1]), text[last + 1 :]
    try:
        amount = _float(number)
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {quoted(number)}: invalid syntax") from None
    if amount < 0:
        raise ValueError(f"invalid size: '{text}'")
    unit = suffix.lower()
    power = "kmgtp".find(unit[:1] or "b") + 1
    if len(suffix) > 3:
        raise ValueError(f"invalid suffix: '{suffix}'")
    if unit not in ("", "b") and (not power or unit[1:] not in ("", "b", "ib")):
        raise ValueError(f"invalid suffix: '{unit}'")
    size = amount * float(kilo) ** power
    if size >= 1 << 63:
        raise ValueError(f"invalid size: '{text}': value out of range")
    return int(size)


def _float(text: str) -> float:
    if not text.isascii() or any(char not in "0123456789.+-eE" for char in text):
        raise ValueError
    return float(text)


def human_size(size: float, precision: int = 4) -> str:
    """Decimal units, that many digits: 1.982MB."""
    return _scaled(size, 1000.0, ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"), precision)


def binary_size(size: float) -> str:
    """Binary units, four digits: 23.54GiB."""
    return _scaled(size, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"), 4)


def _scaled(size: float, base: float, units: Sequence[str], precision: int) -> str:
    step = 0
    while size >= base and step < len(units) - 1:
        size /= base
        step += 1
    return f"{size:.{precision}g}{units[step]}"
