"""Here-documents: ``<<EOF``, ``<<-EOF`` (tabs stripped), ``<<"EOF"`` (nothing expanded), ``3<<EOF`` (a descriptor)."""

import re

from msgspec import Struct

from wherry.dockerfile.errors import DockerfileError
from wherry.dockerfile.expansion import split_raw, unquote

_START = re.compile(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)", re.DOTALL)
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)


class HereDocument(Struct, frozen=True):
    """``word`` is how it began, ``body`` the lines between, as written. ``expand``: its variables are replaced."""

    word: str
    name: str
    body: str = ""
    expand: bool = True
    strip_tabs: bool = False

    @property
    def content(self) -> str:
        """The body as it is meant: without the tabs at the beginnings of lines, for ``<<-``."""
        return _LEADING_TABS.sub("", self.body) if self.strip_tabs else self.body

    @property
    def written(self) -> str:
        """The body and the line that ends it."""
        return f"{self.body}{self.name}"


def parse_start(word: str) -> HereDocument | None:
    """The here-document that ``word`` begins, without its body; None when it begins none.

    Raises DockerfileError when the name's quotes do not match.
    """
    match = _START.fullmatch(word)
    if match is None or not match[3]:
        return None
    names = unquote(match[3])
    if len(names) != 1:
        return None
    quoted = "".join(unquote(match[3], raw_quotes=True))
    # A quote that the expansion took away was one, not part of the name: then nothing in the body is expanded.
    expand = _quotes(quoted) == _quotes(names[0])
    return HereDocument(word, names[0], expand=expand, strip_tabs=match[2] == "-")


def find_starts(text: str) -> list[HereDocument]:
    """The here-documents that the words of a line begin, in order, without bodies.

    A line whose quotes do not match is a matter for the shell, and begins none.
    """
    try:
        words = split_raw(text)
    except DockerfileError:
        return []
    return [found for word in words if (found := parse_start(word)) is not None]


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
