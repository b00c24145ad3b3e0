"""OpenSSL's settings for whoever connects or listens, on either side. Certificates that Docker accepts are accepted.

From Python 3.13 on ``ssl.create_default_context`` insists on all of RFC 5280, and so refuses an authority whose
certificate does not say what its key is for. Docker's own documentation makes such an authority.
"""

import os
import ssl


def client_context(
    authorities: str | None = None, certificate: str | None = None, key: str | None = None, *, verify: bool = True
) -> ssl.SSLContext:
    """Makes a client's context. It trusts the authorities in a file, or those that the machine knows.

    Raises OSError, with the name of a file that cannot be read, and ssl.SSLError.
    """
    _open_each(authorities, certificate, key)
    context = _as_lenient_as_go(ssl.create_default_context(cafile=authorities or None))  # noqa: TID251
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate, key or None)
    return context


def server_context(certificate: str, key: str, *, clients: str | None = None) -> ssl.SSLContext:
    """Makes a server's context; with ``clients``, for those whom the authorities in that file know. Raises likewise."""
    _open_each(certificate, key, clients)
    context = _as_lenient_as_go(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))  # noqa: TID251
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


def _as_lenient_as_go(context: ssl.SSLContext) -> ssl.SSLContext:
    """Go trusts whatever certificate it was given to trust, one that another has signed too."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _open_each(*paths: str | None) -> None:
    """OpenSSL does not say which one is not there."""
    for path in paths:
        if path:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
