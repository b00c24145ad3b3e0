# What __init__.py loads late, for type checkers: imports there would lean the engine on the client.
from wherry.client.building import BuildFailed as BuildFailed
from wherry.client.containers import CommandFailed as CommandFailed
from wherry.client.containers import Container as Container
from wherry.client.containers import Result as Result
from wherry.client.errors import APIError as APIError
from wherry.client.errors import ClientError as ClientError
from wherry.client.errors import ConnectionFailed as ConnectionFailed
from wherry.client.host import TLS as TLS
from wherry.client.images import Image as Image
from wherry.client.library import Engine as Engine
from wherry.client.library import connect as connect

__version__: str
