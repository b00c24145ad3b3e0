"""The Engine API for programs without an event loop, the command line first: see client.py, nouns.py, transport.py."""

from wherry.client import client, transport
from wherry.client.facade import face

Response = face(transport.AsyncResponse)
Pending = face(client.AsyncPending)
Client = face(client.AsyncClient)


def __getattr__(name: str) -> type:
    """The nouns come when they are first used."""
    from wherry.client import nouns

    return face(getattr(nouns, f"Async{name}"))
