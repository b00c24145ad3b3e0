"""Every command, with the module that holds it: a name leads to its code without loading any other.

`TOP` is the table of `wherry NAME`; a `Group` is one more table (`wherry container NAME`). The short texts are here
once more, so that help can list them; a test holds them to what the commands themselves say.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Command


class Entry:
    """A command's place, `module:CONSTANT`, and its one-line description."""

    __slots__ = ("hidden", "place", "short")

    def __init__(self, place: str, short: str, *, hidden: bool = False) -> None:
        self.place, self.short, self.hidden = place, short, hidden

    def load(self) -> Command:
        module, _, constant = self.place.partition(":")
        name = "wherry.cli." + module
        command: Command = getattr(__import__(name, fromlist=[constant]), constant)
        return command


class Group:
    """A command that only has others below it; `aliases` are other names for those, old to new."""

    __slots__ = ("aliases", "commands", "short")

    def __init__(self, short: str, commands: dict[str, Entry], aliases: dict[str, str] | None = None) -> None:
        self.short, self.commands, self.aliases = short, commands, aliases or {}

    def find(self, name: str) -> Entry | None:
        return self.commands.get(self.aliases.get(name, name))


_ATTACH = Entry("attach:ATTACH", "Attach local standard input, output, and error streams to a running container")
_BUILD = Entry("build:BUILD", "Build an image from a Dockerfile")
_COMMIT = Entry("commit:COMMIT", "Create a new image from a container's changes")
_CP = Entry("cp:CP", "Copy files/folders between a container and the local filesystem")
_CREATE = Entry("run:CREATE", "Create a new container")
_DIFF = Entry("diff:DIFF", "Inspect changes to files or directories on a container's filesystem")
_EVENTS = Entry("events:EVENTS", "Get real time events from the server")
_EXEC = Entry("exec:EXEC", "Execute a command in a running container")
_EXPORT = Entry("export:EXPORT", "Export a container's filesystem as a tar archive")
_HISTORY = Entry("history:HISTORY", "Show the history of an image")
_IMAGES = Entry("images:IMAGES", "List images")
_IMPORT = Entry("load:IMPORT", "Import the contents from a tarball to create a filesystem image")
_INFO = Entry("info:INFO", "Display system-wide information")
_INSPECT = Entry("inspect:INSPECT", "Return low-level information on Docker objects")
_KILL = Entry("stop:KILL", "Kill one or more running containers")
_LOGIN = Entry("login:LOGIN", "Authenticate to a registry")
_LOGOUT = Entry("login:LOGOUT", "Log out from a registry")
_LOAD = Entry("load:LOAD", "Load an image from a tar archive or STDIN")
_LOGS = Entry("logs:LOGS", "Fetch the logs of a container")
_PAUSE = Entry("stop:PAUSE", "Pause all processes within one or more containers")
_PORT = Entry("port:PORT", "List port mappings or a specific mapping for the container")
_PULL = Entry("pull:PULL", "Download an image from a registry")
_PUSH = Entry("pull:PUSH", "Upload an image to a registry")
_PS = Entry("ps:PS", "List containers")
_RENAME = Entry("rename:RENAME", "Rename a container")
_RESTART = Entry("stop:RESTART", "Restart one or more containers")
_RM = Entry("rm:RM", "Remove one or more containers")
_RMI = Entry("rmi:RMI", "Remove one or more images")
_RUN = Entry("run:RUN", "Create and run a new container from an image")
_SAVE = Entry("save:SAVE", "Save one or more images to a tar archive (streamed to STDOUT by default)")
_SEARCH = Entry("search:SEARCH", "Search Docker Hub for images")
_START = Entry("start:START", "Start one or more stopped containers")
_STATS = Entry("stats:STATS", "Display a live stream of container(s) resource usage statistics")
_STOP = Entry("stop:STOP", "Stop one or more running containers")
_TAG = Entry("tag:TAG", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE")
_TOP = Entry("top:TOP", "Display the running processes of a container")
_UNPAUSE = Entry("stop:UNPAUSE", "Unpause all processes within one or more containers")
_UPDATE = Entry("update:UPDATE", "Update configuration of one or more containers")
_VERSION = Entry("version:VERSION", "Show the wherry version information")
_WAIT = Entry("wait:WAIT", "Block until one or more containers stop, then print their exit codes")

# In the order in which help shows them.
COMMON = ("run", "exec", "ps", "build", "images", "version", "info")

TOP: dict[str, Entry | Group] = {
    "run": _RUN,
    "exec": _EXEC,
    "ps": _PS,
    "build": _BUILD,
    "images": _IMAGES,
    "version": _VERSION,
    "info": _INFO,
    "container": Group(
        "Manage containers",
        {
            "attach": _ATTACH,
            "commit": _COMMIT,
            "cp": _CP,
            "create": _CREATE,
            "diff": _DIFF,
            "exec": _EXEC,
            "export": _EXPORT,
            "inspect": Entry("inspect:CONTAINER_INSPECT", "Display detailed information on one or more containers"),
            "kill": _KILL,
            "logs": _LOGS,
            "ls": Entry("ps:CONTAINER_LS", "List containers"),
            "pause": _PAUSE,
            "port": _PORT,
            "prune": Entry("prune:CONTAINER_PRUNE", "Remove all stopped containers"),
            "rename": _RENAME,
            "restart": _RESTART,
            "rm": _RM,
            "run": _RUN,
            "start": _START,
            "stats": _STATS,
            "stop": _STOP,
            "top": _TOP,
            "unpause": _UNPAUSE,
            "update": _UPDATE,
            "wait": _WAIT,
        },
        {"list": "ls", "ps": "ls", "remove": "rm"},
    ),
    "image": Group(
        "Manage images",
        {
            "build": _BUILD,
            "history": _HISTORY,
            "import": _IMPORT,
            "inspect": Entry("inspect:IMAGE_INSPECT", "Display detailed information on one or more images"),
            "load": _LOAD,
            "ls": Entry("images:IMAGE_LS", "List images"),
            "prune": Entry("prune:IMAGE_PRUNE", "Remove unused images"),
            "pull": _PULL,
            "push": _PUSH,
            "rm": Entry("rmi:IMAGE_RM", "Remove one or more images"),
            "save": _SAVE,
            "tag": _TAG,
            "tree": Entry("image_tree:IMAGE_TREE", "Draw images as the layers they share"),
        },
        {"list": "ls", "rmi": "rm", "remove": "rm"},
    ),
    "context": Group(
        "Manage contexts",
        {
            "create": Entry("context:CREATE", "Create a context"),
            "inspect": Entry("context:INSPECT", "Display detailed information on one or more contexts"),
            "ls": Entry("context:LS", "List contexts"),
            "rm": Entry("context:RM", "Remove one or more contexts"),
            "show": Entry("context:SHOW", "Print the name of the current context"),
            "use": Entry("context:USE", "Set the current docker context"),
        },
        {"list": "ls", "remove": "rm"},
    ),
    "network": Group(
        "Manage networks",
        {
            "connect": Entry("network:CONNECT", "Connect a container to a network"),
            "create": Entry("network:CREATE", "Create a network"),
            "disconnect": Entry("network:DISCONNECT", "Disconnect a container from a network"),
            "inspect": Entry("inspect:NETWORK_INSPECT", "Display detailed information on one or more networks"),
            "ls": Entry("network:LS", "List networks"),
            "prune": Entry("network:PRUNE", "Remove all unused networks"),
            "rm": Entry("network:RM", "Remove one or more networks"),
        },
        {"list": "ls", "remove": "rm"},
    ),
    "volume": Group(
        "Manage volumes",
        {
            "create": Entry("volume:CREATE", "Create a volume"),
            "export": Entry("volume:EXPORT", "Export a volume's content as a tar archive"),
            "import": Entry("volume:IMPORT", "Import the content of a tar archive into a volume"),
            "inspect": Entry("inspect:VOLUME_INSPECT", "Display detailed information on one or more volumes"),
            "ls": Entry("volume:LS", "List volumes"),
            "prune": Entry("prune:VOLUME_PRUNE", "Remove unused local volumes"),
            "rm": Entry("volume:RM", "Remove one or more volumes"),
        },
        {"list": "ls", "remove": "rm"},
    ),
    "builder": Group(
        "Manage builds",
        {
            "build": _BUILD,
            "prune": Entry("builder:PRUNE", "Remove build cache"),
        },
    ),
    "system": Group(
        "Manage wherry",
        {
            "df": Entry("disk_usage:DF", "Show wherry disk usage"),
            "dial-stdio": Entry(
                "dial_stdio:DIAL_STDIO",
                "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
                hidden=True,
            ),
            "events": _EVENTS,
            "info": _INFO,
            "prune": Entry("prune:SYSTEM_PRUNE", "Remove unused data"),
        },
    ),
    "__complete": Entry("completion:COMPLETE", "List what the last of some words may become", hidden=True),
    "manifest": Group(
        "Manage image manifests and manifest lists",
        {"inspect": Entry("manifest:INSPECT", "Display an image manifest, or manifest list")},
    ),
    "attach": _ATTACH,
    "commit": _COMMIT,
    "completion": Entry("completion:COMPLETION", "Generate the completion script for a shell"),
    "cp": _CP,
    "create": _CREATE,
    "diff": _DIFF,
    "events": _EVENTS,
    "export": _EXPORT,
    "history": _HISTORY,
    "import": _IMPORT,
    "inspect": _INSPECT,
    "kill": _KILL,
    "load": _LOAD,
    "login": _LOGIN,
    "logout": _LOGOUT,
    "logs": _LOGS,
    "pause": _PAUSE,
    "port": _PORT,
    "pull": _PULL,
    "push": _PUSH,
    "rename": _RENAME,
    "restart": _RESTART,
    "rm": _RM,
    "rmi": _RMI,
    "save": _SAVE,
    "search": _SEARCH,
    "start": _START,
    "stats": _STATS,
    "stop": _STOP,
    "tag": _TAG,
    "top": _TOP,
    "unpause": _UNPAUSE,
    "update": _UPDATE,
    "wait": _WAIT,
}
