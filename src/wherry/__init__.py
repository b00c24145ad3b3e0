"""wherry: a container engine in Python.

import wherry

with wherry.connect() as engine:
    print(engine.run("busybox", ["echo", "hi"]).output)
"""

__version__ = "0.2.0"
__all__ = [
    "TLS",
    "APIError",
    "AsyncContainer",
    "AsyncEngine",
    "AsyncImage",
    "AsyncNetwork",
    "AsyncProcess",
    "AsyncVolume",
    "BuildEvent",
    "BuildFailed",
    "ClientError",
    "CommandFailed",
    "CommandTimedOut",
    "ConnectionFailed",
    "ConnectionLost",
    "Container",
    "Embedded",
    "Engine",
    "Image",
    "Mount",
    "Network",
    "Process",
    "Result",
    "Volume",
    "aconnect",
    "connect",
    "embedded",
]

_PLACES = {
    "TLS": "endpoint",
    "APIError": "transport",
    "AsyncContainer": "containers",
    "AsyncEngine": "engine",
    "AsyncImage": "images",
    "AsyncNetwork": "resources",
    "AsyncProcess": "process",
    "AsyncVolume": "resources",
    "BuildEvent": "builds",
    "BuildFailed": "builds",
    "ClientError": "transport",
    "CommandFailed": "process",
    "CommandTimedOut": "process",
    "ConnectionFailed": "transport",
    "ConnectionLost": "transport",
    "Container": "sync",
    "Embedded": "embedded",
    "Engine": "sync",
    "Image": "sync",
    "Mount": "options",
    "Network": "sync",
    "Process": "sync",
    "Result": "process",
    "Volume": "sync",
    "aconnect": "engine",
    "connect": "sync",
    "embedded": "embedded",
}


def __getattr__(name: str) -> object:
    """What __all__ names is loaded when it is first used: the command line and the daemon begin here, too."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = __import__(f"wherry.client.{_PLACES[name]}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Also what has not been loaded yet: a REPL completes it."""
    return sorted({*globals(), *__all__})
