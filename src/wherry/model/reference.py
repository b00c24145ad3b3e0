"""Names of images: "debian", "debian:12", "registry.example:5000/team/app@sha256:…". Pure text, nothing is looked up.

A name has a domain and a path; what the user writes leaves most of it out, and ``parse`` puts it back in: "debian" is
docker.io/library/debian. ``familiar`` takes it out again.
"""

import re
from dataclasses import dataclass, replace

from wherry.model.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
_OLD_DEFAULT_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
DEFAULT_TAG = "latest"
MAX_NAME = 255

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(rf"({_COMPONENT}(?:/{_COMPONENT})*)(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII)
_DOMAIN_ONLY = re.compile(_DOMAIN, re.ASCII)
_TAG_ONLY = re.compile(_TAG, re.ASCII)
_HEX_ID = re.compile(r"[a-f0-9]{64}")
_SHA256 = re.compile(r"sha256:[a-f0-9]{64}")
_HEX_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


class InvalidReference(InvalidParameter):
    """What the user wrote is not a name of an image. The message is Docker's."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A whole name. ``tag`` and ``digest`` are "" when they were not given."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

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

    def with_default_tag(self) -> "Reference":
        """With ":latest", unless there is a tag or a digest."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)


def parse(text: str) -> Reference:
    """The reference that a user's text means. Raises InvalidReference."""
    if _HEX_ID.fullmatch(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    name = remainder.partition("@")[0]
    name = name[: name.index(":")] if ":" in name else name
    if name != name.lower():
        raise InvalidReference(f"invalid reference format: repository name ({name}) must be lowercase")
    match = _REFERENCE.fullmatch(remainder)
    if not match or not _DOMAIN_ONLY.fullmatch(domain):
        raise InvalidReference("invalid reference format")
    path, tag, digest = match[1], match[2] or "", match[3] or ""
    if len(f"{domain}/{path}") > MAX_NAME:
        raise InvalidReference(f"repository name must not be more than {MAX_NAME} characters")
    if digest:
        _check_digest(digest)
    return Reference(domain, path, tag, digest)


def tagged(repo: str, tag: str = "") -> Reference:
    """The name to give an image: ``repo``, which may have a tag of its own, and ``tag``, which goes before it.

    Raises InvalidReference for a digest, which is nothing that one can give.
    """
    reference = parse(repo)
    if reference.digest:
        raise InvalidReference("refusing to create a tag with a digest reference")
    if reference.familiar_name == "sha256":
        raise InvalidReference("refusing to create an ambiguous tag using digest algorithm as name")
    if tag:
        if not _TAG_ONLY.fullmatch(tag):
            raise InvalidReference("invalid tag format")
        reference = replace(reference, tag=tag)
    return reference.with_default_tag()


def is_tag(text: str) -> bool:
    return bool(_TAG_ONLY.fullmatch(text))


def is_image_id(text: str) -> bool:
    """Whether it can only be an id: 64 hexadecimal digits, with or without "sha256:"."""
    return bool(_HEX_ID.fullmatch(text) or _SHA256.fullmatch(text))


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash or not (set(".:") & set(first) or first == "localhost" or first.lower() != first):
        domain, remainder = DEFAULT_DOMAIN, text
    else:
        domain, remainder = first, rest
    if domain == _OLD_DEFAULT_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _check_digest(digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    length = _HEX_LENGTHS.get(algorithm)
    if length is None:
        raise InvalidReference("unsupported digest algorithm")
    if len(value) != length:
        raise InvalidReference("invalid checksum digest length")
    if value != value.lower():
        raise InvalidReference("invalid checksum digest format")
