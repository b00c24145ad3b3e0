"""Regular expressions that clients write. RE2 reads them, as in Docker: the time it takes grows with the text alone,
where Python's own may take years over an expression that somebody means ill with."""

from collections.abc import Callable

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/")

_LARGEST = 1 << 20  # bytes that an expression may come to: a{1000} is one of seven characters

Finds = Callable[[str], bool]


def compile_expression(text: str) -> Finds:
    """Whether it is found in a text. Raises ValueError for what is no expression, or too large a one."""
    begins, ends = text.startswith("^"), text.endswith("$")
    plain = text.removeprefix("^").removesuffix("$")
    if _PLAIN.issuperset(plain):
        return _find_plain(plain, begins=begins, ends=ends)
    import re2  # 7 ms that few need

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _LARGEST
    try:
        found = re2.compile(text, options)
    except re2.error as error:
        raise ValueError(error.args[0].decode(errors="replace")) from None
    return lambda name: found.search(name) is not None


def name_filter(text: str) -> Finds:
    """What is no expression stands for itself."""
    try:
        return compile_expression(text)
    except ValueError:
        return lambda name: text in name


def _find_plain(text: str, *, begins: bool, ends: bool) -> Finds:
    if begins and ends:
        return lambda name: name == text
    if begins:
        return lambda name: name.startswith(text)
    if ends:
        return lambda name: name.endswith(text)
    return lambda name: text in name
