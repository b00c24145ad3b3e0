"""Image references as people write them: what is left out, and how they are shown. Checked without `re`, which
takes longer to import than all of `run` may take."""

from __future__ import annotations

from wherry.cli.session import CommandError

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_HEX = frozenset("0123456789abcdef")

HUB = "docker.io"


class BadName(CommandError, ValueError):
    """A text that is no image's name, in docker's words."""


class Reference:
    """An image by name: `domain`, `path`, and a `tag` or a `digest` or both ("" where not given)."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str, digest: str) -> None:
        self.domain, self.path, self.tag, self.digest = domain, path, tag, digest

    @property
    def repository(self) -> str:
        """As the API takes it: docker.io/library/busybox."""
        return f"{self.domain}/{self.path}"

    @property
    def whole(self) -> str:
        """With its tag and digest: docker.io/library/debian:12."""
        return self.repository + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> str:
        """As people write it, with its tag: busybox:latest."""
        official = self.path.removeprefix("library/")
        name = self.repository if self.domain != HUB else self.path if "/" in official else official
        return name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference | None:
    """None for a whole image id of 64 digits, which is no name. A tag that is left out stays out.

    Raises BadName.
    """
    if len(text) == 64 and _HEX.issuperset(text):
        return None
    name, at, digest = text.partition("@")
    if text.startswith("sha256:") and len(text) == 71 and _HEX.issuperset(text[7:]):
        return None
    if at and not _is_digest(digest):
        raise BadName("invalid reference format")
    slash = name.rfind("/")
    colon = name.find(":", slash + 1)
    tag = ""
    if colon >= 0:
        name, tag = name[:colon], name[colon + 1 :]
        if not _is_tag(tag):
            raise BadName("invalid reference format")
    domain, path = _domain(name)
    if path != path.lower():
        raise BadName(f"invalid reference format: repository name ({path}) must be lowercase")
    if not _is_domain(domain) or not all(_is_component(part) for part in path.split("/")):
        raise BadName("invalid reference format")
    if len(f"{domain}/{path}") > 255:
        raise BadName("repository name must not be more than 255 characters")
    return Reference(domain, path, tag, digest)


def named(text: str) -> Reference:
    """Like `parse`, where only a name will do."""
    found = parse(text)
    if found is None:
        raise BadName(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    return found


def to_tag(text: str) -> Reference:
    """The name that an image is to get; with the tag `latest` where it says none."""
    name = named(text)
    if name.digest:
        raise CommandError("refusing to create a tag with a digest reference")
    return tagged(name)


def tagged(reference: Reference) -> Reference:
    """With the tag `latest` where nothing says which."""
    if reference.tag or reference.digest:
        return reference
    return Reference(reference.domain, reference.path, "latest", "")


def _domain(name: str) -> tuple[str, str]:
    """A first part is a domain when it has a dot or a port, is localhost, or has capitals; else all is the path."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        if first == "index.docker.io":
            first = HUB
        domain, path = first, rest
    else:
        domain, path = HUB, name
    return domain, f"library/{path}" if domain == HUB and "/" not in path else path


def _is_domain(text: str) -> bool:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host = text
    elif not (port.isascii() and port.isdigit()):
        return False
    if host.startswith("["):
        return host.endswith("]") and set(host[1:-1]) <= set("0123456789abcdefABCDEF:") and len(host) > 2
    return all(
        label and _ALNUM.issuperset(label.replace("-", "")) and label[0] != "-" and label[-1] != "-"
        for label in host.split(".")
    )


def _is_component(text: str) -> bool:
    """Letters and digits, with single dots, one or two underscores or any dashes between them."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    separator = ""
    for char in text:
        if char in _LOWER:
            if separator not in ("", ".", "_", "__") and separator.strip("-"):
                return False
            separator = ""
        else:
            separator += char
    return True


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= 128 and text[0] not in ".-" and all(char in _ALNUM or char in "_.-" for char in text)


def _is_digest(text: str) -> bool:
    algorithm, colon, digits = text.partition(":")
    known = {"sha256": 64, "sha384": 96, "sha512": 128}
    return bool(colon) and len(digits) == known.get(algorithm, -1) and _HEX.issuperset(digits)
