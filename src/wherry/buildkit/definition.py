"""Graphs of one source.

A result is known to the client by such a graph of the engine's own, which comes back where another build uses it
(bake's ``contexts = { base = "target:base" }``).
"""

import hashlib
from typing import Any

from google.protobuf.message import DecodeError

from wherry.buildkit import messages
from wherry.common.errors import InvalidParameter

RESULT = "wherry-result://"


def of_result(image: str) -> Any:
    """The graph that stands for an image made here."""
    source = messages.Op(source=messages.SourceOp(identifier=f"{RESULT}{image}")).SerializeToString()
    digest = _digest(source)
    end = messages.Op(inputs=[messages.Input(digest=digest)]).SerializeToString()
    definition = messages.Definition()
    definition.def_.extend((source, end))
    for each in (digest, _digest(end)):
        definition.metadata[each].SetInParent()
    return definition


def context_of(definition: Any) -> str:
    """What a graph leads to that is one source, as the frontend's option for a named context says it:
    ``docker-image://…``, an image's id. "" for a graph that has more in it, or nothing.

    Raises InvalidParameter for what is no graph.
    """
    ops = {_digest(data): data for data in definition.def_}
    if not ops:
        return ""
    try:
        decoded = {digest: messages.Op.FromString(data) for digest, data in ops.items()}
    except DecodeError:
        raise InvalidParameter("the graph of the build cannot be read") from None
    last = decoded[_digest(definition.def_[-1])]
    op = decoded.get(last.inputs[0].digest) if last.inputs else last
    if op is None:
        raise InvalidParameter("the graph of the build is not whole")
    if not op.HasField("source") or op.inputs:
        return ""
    identifier: str = op.source.identifier
    return identifier


def result_of(context: str) -> str:
    """The image that ``of_result`` was made for; "" for any other context."""
    return context[len(RESULT) :] if context.startswith(RESULT) else ""


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
