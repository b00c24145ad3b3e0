"""containerd's content service, of a client: OCI layouts and caches in its directories, blob by blob.

A directory is known by a word: "export" for that of ``--output type=oci,tar=false``, "local:<path>" for a cache's,
"oci:<word>" for an OCI layout that a client calls a context.
"""

from collections.abc import AsyncGenerator, Iterator

import msgspec

from wherry.buildkit import messages
from wherry.buildkit.grpc import ALREADY_EXISTS, NOT_FOUND, RpcError
from wherry.buildkit.session import Session
from wherry.common.errors import InvalidParameter, NotFound, NotSupported
from wherry.model.image import Descriptor, decode
from wherry.registry.repository import Document, parse_document
from wherry.storage.content import check_digest, digest_of

OCI_LAYOUT = "oci-layout:"
_SERVICE = "/containerd.services.content.v1.Content"
_STORE = "buildkit-attachable-store-id"
_STAT, _WRITE, _COMMIT = range(3)
_PIECE = 1 << 20
_LARGEST_DOCUMENT = 32 << 20


class ContentStore:
    """One directory of a session's client."""

    def __init__(self, session: Session, store_id: str) -> None:
        if not session.offers(f"{_SERVICE}/Write"):
            raise NotSupported("the client has no directory for blobs: its session offers no content service")
        self._channel = session.channel
        self._metadata = [(_STORE, store_id)]

    async def write(self, digest: str, content: bytes | str) -> None:
        """Sends a blob: contents, or a file of this machine by its path. One that is there stays. Raises RpcError."""
        pieces = _pieces(content)
        try:
            async with self._channel.call(f"{_SERVICE}/Write", self._metadata) as call:

                async def ask(action: int, offset: int, data: bytes = b"") -> None:
                    await call.send(messages.WriteContentRequest(
                        action=action, ref=f"wherry-{digest}", expected=digest, offset=offset, data=data,
                        total=offset if action == _COMMIT else 0,
                    ))  # fmt: skip
                    if await call.receive(messages.WriteContentResponse) is None:
                        raise RpcError(14, f"the client has not taken {digest}")

                await ask(_STAT, 0)
                offset = 0
                for piece in pieces:
                    await ask(_WRITE, offset, piece)
                    offset += len(piece)
                await ask(_COMMIT, offset)
                await call.send_end()
        except RpcError as error:
            if error.code != ALREADY_EXISTS:
                raise

    async def read(self, digest: str) -> AsyncGenerator[bytes, None]:
        """A blob, piece by piece. Its digest is for the reader to check. Raises NotFound."""
        try:
            async with self._channel.call(f"{_SERVICE}/Read", self._metadata) as call:
                await call.send(messages.ReadContentRequest(digest=digest), end=True)
                async for answer in call.messages(messages.ReadContentResponse):
                    yield answer.data
        except RpcError as error:
            if error.code == NOT_FOUND:
                raise NotFound(f"content {digest} is not in the client's directory") from None
            raise

    async def document(self, digest: str) -> bytes:
        """A small blob as a whole, checked. Raises NotFound, InvalidParameter."""
        found = bytearray()
        async for piece in self.read(digest):
            found += piece
            if len(found) > _LARGEST_DOCUMENT:
                raise InvalidParameter(f"content {digest} is larger than {_LARGEST_DOCUMENT >> 20} MiB")
        content = bytes(found)
        if digest_of(content) != digest:
            raise InvalidParameter(f"content {digest} has the digest {digest_of(content)}")
        return content


class CacheInDirectory:
    """A build cache in a client's directory, which ``digest`` leads to."""

    def __init__(self, session: Session, source: str, digest: str) -> None:
        self._store = ContentStore(session, f"local:{source}")
        self._digest = check_digest(digest)

    async def root(self) -> tuple[bytes, str]:
        raw = await self._store.document(self._digest)
        found = decode(raw, _Typed, "the cache's document")
        return raw, found.media_type

    async def document(self, descriptor: Descriptor) -> bytes:
        return await self._store.document(descriptor.digest)

    def blob(self, descriptor: Descriptor) -> AsyncGenerator[bytes, None]:
        return self._store.read(descriptor.digest)


class Layout:
    """An OCI layout in a client's directory: an image is pulled from it as from a registry."""

    def __init__(self, session: Session, store_id: str) -> None:
        self._store = ContentStore(session, f"oci:{store_id}")

    async def manifest(self, digest: str) -> Document:
        """Raises NotFound, InvalidParameter."""
        return parse_document(await self._store.document(check_digest(digest)), "", digest)

    async def document(self, descriptor: Descriptor) -> bytes:
        return await self._store.document(descriptor.digest)

    def blob(self, descriptor: Descriptor) -> AsyncGenerator[bytes, None]:
        return self._store.read(descriptor.digest)


def read_layout(address: str, session: Session, store_id: str = "") -> tuple[Layout, str]:
    """Where ``oci-layout://<word>[:tag]@<digest>`` leads, and the digest. Raises InvalidParameter.

    ``store_id``: the client's word for the layout where it is not that of the address.
    """
    name, at, digest = address.removeprefix(OCI_LAYOUT).removeprefix("//").partition("@")
    if not at:
        raise InvalidParameter(f"{address} has no digest: expected {OCI_LAYOUT}//…@sha256:…")
    word = store_id or name.partition(":")[0]
    return Layout(session, word), check_digest(digest)


class _Typed(msgspec.Struct, rename="camel"):
    media_type: str


def _pieces(content: bytes | str) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield from (content[at : at + _PIECE] for at in range(0, len(content), _PIECE))
        return
    with open(content, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            yield piece
