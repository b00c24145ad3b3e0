"""Names of images: "debian", "debian:12", "registry.example:5000/team/app@sha256:…". Pure text, nothing is looked up.

A name has a domain and a path; what the user writes leaves most of it out, and ``parse`` puts it back in: "debian" is
docker.io/library/debian. ``familiar`` takes it out again. The grammar is that of github.com/distribution/reference,
and so are the messages. It is checked without ``re``, which takes longer to import than all of ``run`` may take.
"""

from __future__ import annotations

from wherry.common.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
_OLD_DEFAULT_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
DEFAULT_TAG = "latest"
MAX_NAME = 255
_MAX_TAG = 128

_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_ALPHANUMERIC = _LETTERS | _DIGITS
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}  # in hexadecimal digits


class InvalidReference(InvalidParameter):
    """A text that is no image's name. The message is Docker's."""


class Reference:
    """A whole name. ``tag`` and ``digest`` are "" when they were not given."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str = "", digest: str = "") -> None:
        self.domain, self.path, self.tag, self.digest = domain, path, tag, digest

    @property
    def name(self) -> str:
        """Without tag and digest: "docker.io/library/debian"."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """As people write it: "debian"."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in rest else rest

    @property
    def familiar(self) -> str:
        """As people write it, with tag and digest: "debian:12"."""
        return self.familiar_name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def with_tag(self, tag: str) -> Reference:
        return Reference(self.domain, self.path, tag, self.digest)

    def with_default_tag(self) -> Reference:
        """With ":latest", unless there is a tag or a digest."""
        return self if self.tag or self.digest else self.with_tag(DEFAULT_TAG)


def parse(text: str) -> Reference:
    """The reference that a user's text means. Raises InvalidReference."""
    if len(text) == 64 and _HEX.issuperset(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    name = remainder.partition(":")[0]
    if name != name.lower():
        raise InvalidReference(f"invalid reference format: repository name ({name}) must be lowercase")
    named, at, digest = remainder.partition("@")
    path, colon, tag = named.partition(":")
    if (
        not is_domain(domain)
        or not all(_is_component(part) for part in path.split("/"))
        or (colon and not is_tag(tag))
        or (at and not _is_digest(digest))
    ):
        raise InvalidReference("invalid reference format")
    if len(f"{domain}/{path}") > MAX_NAME:
        raise InvalidReference(f"repository name must not be more than {MAX_NAME} characters")
    if digest:
        _check_digest(digest)
    return Reference(domain, path, tag, digest)


def parse_to_tag(repo: str, tag: str = "") -> Reference:
    """The name to give an image: ``repo``, which may have a tag of its own, and ``tag``, which goes before it.

    Raises InvalidReference for a digest, which is nothing that one can give.
    """
    reference = parse(repo)
    if reference.digest:
        raise InvalidReference("refusing to create a tag with a digest reference")
    if reference.familiar_name == "sha256":
        raise InvalidReference("refusing to create an ambiguous tag using digest algorithm as name")
    if tag:
        if not is_tag(tag):
            raise InvalidReference("invalid tag format")
        reference = reference.with_tag(tag)
    return reference.with_default_tag()


def is_tag(text: str) -> bool:
    return 0 < len(text) <= _MAX_TAG and text[0] not in ".-" and all(c in _ALPHANUMERIC or c in "_.-" for c in text)


def is_image_id(text: str) -> bool:
    """Whether it can only be an id: 64 hexadecimal digits, with or without "sha256:"."""
    digits = text.removeprefix("sha256:")
    return len(digits) == 64 and _HEX.issuperset(digits)


def _split_domain(text: str) -> tuple[str, str]:
    """A first part is a domain when it has a dot or a port, is localhost, or has capitals; else all is the path."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == _OLD_DEFAULT_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def is_domain(text: str) -> bool:
    host, colon, port = ("", "", "") if text.endswith("]") else text.rpartition(":")
    if not colon:
        host = text
    elif not port or not _DIGITS.issuperset(port):
        return False
    if host.startswith("["):
        return len(host) > 2 and host.endswith("]") and set(host[1:-1]) <= set("0123456789abcdefABCDEF:")
    return all(
        label and _ALPHANUMERIC.issuperset(label.replace("-", "a")) and label[0] != "-" and label[-1] != "-"
        for label in host.split(".")
    )


def _is_component(text: str) -> bool:
    """Letters and digits, with single dots, one or two underscores or any dashes between them."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    separator = ""
    for char in text:
        if char not in _LOWER:
            separator += char
        elif separator:
            if separator not in (".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
    return True


def _is_digest(text: str) -> bool:
    """Algorithms of letters and digits, joined by one of ``-_+.``, and at least 32 hexadecimal digits."""
    algorithm, colon, value = text.partition(":")
    parts = algorithm.replace("_", "-").replace("+", "-").replace(".", "-").split("-")
    return (
        bool(colon)
        and all(part and part[0] in _LETTERS and _ALPHANUMERIC.issuperset(part) for part in parts)
        and len(value) >= 32
        and value.isascii()
        and _HEX.issuperset(value.lower())
    )


def _check_digest(digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None:
        raise InvalidReference("unsupported digest algorithm")
    if len(value) != length:
        raise InvalidReference("invalid checksum digest length")
    if not _HEX.issuperset(value):
        raise InvalidReference("invalid checksum digest format")
