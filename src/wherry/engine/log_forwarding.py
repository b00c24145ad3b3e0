"""Where the lines of a log are forwarded to: the options of the drivers syslog and journald."""

import os
import re
from urllib.parse import urlsplit

from wherry.engine import log_tags
from wherry.model.container import Container
from wherry.model.errors import InvalidParameter
from wherry.model.host import LogConfig
from wherry.runtime.spec import Journald, Syslog

SYSLOG_OPTIONS = {
    "syslog-address", "syslog-facility", "syslog-format", "syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key",
    "syslog-tls-skip-verify",
}  # fmt: skip
JOURNAL = "/run/systemd/journal/socket"

_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")  # where the machine's own syslog may be
_DEFAULT_PORT = 514
_DEFAULT_TAG = "{{.ID}}"
_PROTOCOLS = ("unix", "unixgram", "udp", "tcp", "tcp+tls")
_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("", "", "", ""),
    *(f"local{number}" for number in range(8)),
)


def check(config: LogConfig) -> None:
    """Raises InvalidParameter, in Docker's words, for what a container's lines cannot be forwarded to."""
    if config.type == "syslog":
        _check_files(_syslog(config.config, ""))
    elif config.type == "journald" and not os.path.exists(JOURNAL):
        raise InvalidParameter(f"journald is not enabled on this host: there is no {JOURNAL}")


def _check_files(to: Syslog) -> None:
    if to.protocol in ("unix", "unixgram") and not os.path.exists(to.address):
        raise InvalidParameter(f"stat {to.address}: no such file or directory")
    for path in (to.ca_cert, to.cert, to.key):
        if path and not os.access(path, os.R_OK):
            raise InvalidParameter(f'could not read the certificate or key "{path}" for syslog')


def forward_of(container: Container, attributes: dict[str, str]) -> Syslog | Journald | None:
    config = container.log
    if config.type not in ("syslog", "journald"):
        return None
    tag = log_tags.render(config.config.get("tag") or _DEFAULT_TAG, container)
    if config.type == "syslog":
        return _syslog(config.config, tag)
    extra = {_field_name(name): value for name, value in attributes.items() if name != "tag"}
    own = {
        "CONTAINER_ID": container.id[:12],
        "CONTAINER_ID_FULL": container.id,
        "CONTAINER_NAME": container.name,
        "CONTAINER_TAG": tag,
        "IMAGE_NAME": container.image,
        "SYSLOG_IDENTIFIER": tag,
    }
    return Journald(JOURNAL, own | extra)


def _field_name(name: str) -> str:
    """As the journal wants them: capitals, digits and underscores, and none of the last at the beginning."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper()).lstrip("_")


def _syslog(options: dict[str, str], tag: str) -> Syslog:
    protocol, address, port = _address(options.get("syslog-address", ""))
    form = options.get("syslog-format", "")
    if form not in _FORMATS:
        raise InvalidParameter("Invalid syslog format")
    return Syslog(
        protocol=protocol,  # type: ignore[arg-type]  # one of _PROTOCOLS, which _address has seen to
        address=address,
        port=port,
        facility=_facility(options.get("syslog-facility", "daemon")) << 3,
        format=form,  # type: ignore[arg-type]  # likewise
        tag=tag,
        ca_cert=options.get("syslog-tls-ca-cert", ""),
        cert=options.get("syslog-tls-cert", ""),
        key=options.get("syslog-tls-key", ""),
        skip_verify="syslog-tls-skip-verify" in options,
    )


def _address(text: str) -> tuple[str, str, int]:
    """The protocol, the path or host, and the port."""
    if not text:
        return "unixgram", next((path for path in _LOCAL if os.path.exists(path)), _LOCAL[0]), 0
    url = urlsplit(text)
    if url.scheme not in _PROTOCOLS or "://" not in text:
        raise InvalidParameter(f"syslog-address should be in form proto://address, got {text}")
    if url.scheme in ("unix", "unixgram"):
        return url.scheme, url.path, 0
    try:
        return url.scheme, url.hostname or "localhost", url.port or _DEFAULT_PORT
    except ValueError as error:
        raise InvalidParameter(f"syslog-address {text}: {error}") from None


def _facility(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text) < len(_FACILITIES):
        return int(text)
    if not text or text not in _FACILITIES:
        raise InvalidParameter("invalid syslog facility")
    return _FACILITIES.index(text)
