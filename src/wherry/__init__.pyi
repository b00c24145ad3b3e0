# What __init__.py loads late, for type checkers: imports there would lean the engine on the client.
from wherry.client.builds import BuildEvent as BuildEvent
from wherry.client.builds import BuildFailed as BuildFailed
from wherry.client.containers import AsyncContainer as AsyncContainer
from wherry.client.embedded import Embedded as Embedded
from wherry.client.embedded import embedded as embedded
from wherry.client.endpoint import TLS as TLS
from wherry.client.engine import AsyncEngine as AsyncEngine
from wherry.client.engine import aconnect as aconnect
from wherry.client.images import AsyncImage as AsyncImage
from wherry.client.options import Mount as Mount
from wherry.client.process import AsyncProcess as AsyncProcess
from wherry.client.process import CommandFailed as CommandFailed
from wherry.client.process import CommandTimedOut as CommandTimedOut
from wherry.client.process import Result as Result
from wherry.client.resources import AsyncNetwork as AsyncNetwork
from wherry.client.resources import AsyncVolume as AsyncVolume
from wherry.client.sync import Container as Container
from wherry.client.sync import Engine as Engine
from wherry.client.sync import Image as Image
from wherry.client.sync import Network as Network
from wherry.client.sync import Process as Process
from wherry.client.sync import Volume as Volume
from wherry.client.sync import connect as connect
from wherry.client.transport import APIError as APIError
from wherry.client.transport import ClientError as ClientError
from wherry.client.transport import ConnectionFailed as ConnectionFailed
from wherry.client.transport import ConnectionLost as ConnectionLost

__version__: str
