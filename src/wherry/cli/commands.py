"""Every command, with the module that holds it: a name leads to its code without loading any other.

A command's lines in the table: its names, as its help shows them; its place, `module:function` (less the function's
`run_`); its usage; and what it is for. The first name that a group has for it is the one that the group lists.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from wherry.cli.session import Command

GROUPS = {
    "builder": "Manage builds",
    "container": "Manage containers",
    "context": "Manage contexts",
    "image": "Manage images",
    "manifest": "Manage image manifests and manifest lists",
    "network": "Manage networks",
    "system": "Manage wherry",
    "volume": "Manage volumes",
}
# In the order in which help shows them.
COMMON = ("run", "exec", "ps", "build", "images", "version", "info")
HIDDEN = ("__complete", "system dial-stdio")

_TABLE = """
container attach, attach | attach:attach | [OPTIONS] CONTAINER
    Attach local standard input, output, and error streams to a running container
container commit, commit | images:commit | [OPTIONS] CONTAINER [REPOSITORY[:TAG]]
    Create a new image from a container's changes
container cp, cp | cp:cp | [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-
    Copy files/folders between a container and the local filesystem
container create, create | run:create | [OPTIONS] IMAGE [COMMAND] [ARG...]
    Create a new container
container diff, diff | containers:diff | CONTAINER
    Inspect changes to files or directories on a container's filesystem
container exec, exec | attach:exec | [OPTIONS] CONTAINER COMMAND [ARG...]
    Execute a command in a running container
container export, export | archives:export | [OPTIONS] CONTAINER
    Export a container's filesystem as a tar archive
container inspect | inspect:container | [OPTIONS] CONTAINER [CONTAINER...]
    Display detailed information on one or more containers
container kill, kill | containers:kill | [OPTIONS] CONTAINER [CONTAINER...]
    Kill one or more running containers
container logs, logs | containers:logs | [OPTIONS] CONTAINER
    Fetch the logs of a container
container ls, container list, container ps, ps | containers:ps | [OPTIONS]
    List containers
container pause, pause | containers:pause | CONTAINER [CONTAINER...]
    Pause all processes within one or more containers
container port, port | containers:port | CONTAINER [PRIVATE_PORT[/PROTO]]
    List port mappings or a specific mapping for the container
container prune | prune:containers | [OPTIONS]
    Remove all stopped containers
container rename, rename | containers:rename | CONTAINER NEW_NAME
    Rename a container
container restart, restart | containers:restart | [OPTIONS] CONTAINER [CONTAINER...]
    Restart one or more containers
container rm, container remove, rm | containers:rm | [OPTIONS] CONTAINER [CONTAINER...]
    Remove one or more containers
container run, run | run:run | [OPTIONS] IMAGE [COMMAND] [ARG...]
    Create and run a new container from an image
container start, start | attach:start | [OPTIONS] CONTAINER [CONTAINER...]
    Start one or more stopped containers
container stats, stats | stats:stats | [OPTIONS] [CONTAINER...]
    Display a live stream of container(s) resource usage statistics
container stop, stop | containers:stop | [OPTIONS] CONTAINER [CONTAINER...]
    Stop one or more running containers
container top, top | containers:top | CONTAINER [ps OPTIONS]
    Display the running processes of a container
container unpause, unpause | containers:unpause | CONTAINER [CONTAINER...]
    Unpause all processes within one or more containers
container update, update | container_flags:update | [OPTIONS] CONTAINER [CONTAINER...]
    Update configuration of one or more containers
container wait, wait | containers:wait | CONTAINER [CONTAINER...]
    Block until one or more containers stop, then print their exit codes
image build, build, builder build | build:build | [OPTIONS] PATH | URL | -
    Build an image from a Dockerfile
image history, history | images:history | [OPTIONS] IMAGE
    Show the history of an image
image import, import | archives:import | [OPTIONS] file|URL|- [REPOSITORY[:TAG]]
    Import the contents from a tarball to create a filesystem image
image inspect | inspect:image | [OPTIONS] IMAGE [IMAGE...]
    Display detailed information on one or more images
image load, load | archives:load | [OPTIONS]
    Load an image from a tar archive or STDIN
image ls, image list, images | images:images | [OPTIONS] [REPOSITORY[:TAG]]
    List images
image prune | prune:images | [OPTIONS]
    Remove unused images
image pull, pull | registry:pull | [OPTIONS] NAME[:TAG|@DIGEST]
    Download an image from a registry
image push, push | registry:push | [OPTIONS] NAME[:TAG]
    Upload an image to a registry
image rm, image remove, rmi | images:rmi | [OPTIONS] IMAGE [IMAGE...]
    Remove one or more images
image save, save | archives:save | [OPTIONS] IMAGE [IMAGE...]
    Save one or more images to a tar archive (streamed to STDOUT by default)
image tag, tag | images:tag | SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]
    Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
image tree | image_tree:tree | [OPTIONS] [IMAGE...]
    Draw images as the layers they share
context create | context:create | [OPTIONS] CONTEXT
    Create a context
context export | context:export | [OPTIONS] CONTEXT [FILE|-]
    Export a context to a tar archive FILE or a tar stream on STDOUT.
context import | context:import | CONTEXT FILE|-
    Import a context from a tar or zip file
context inspect | context:inspect | [OPTIONS] [CONTEXT] [CONTEXT...]
    Display detailed information on one or more contexts
context ls, context list | context:ls | [OPTIONS]
    List contexts
context rm, context remove | context:rm | CONTEXT [CONTEXT...]
    Remove one or more contexts
context show | context:show |
    Print the name of the current context
context update | context:update | [OPTIONS] CONTEXT
    Update a context
context use | context:use | CONTEXT
    Set the current docker context
network connect | network:connect | [OPTIONS] NETWORK CONTAINER
    Connect a container to a network
network create | network:create | [OPTIONS] NETWORK
    Create a network
network disconnect | network:disconnect | [OPTIONS] NETWORK CONTAINER
    Disconnect a container from a network
network inspect | inspect:network | [OPTIONS] NETWORK [NETWORK...]
    Display detailed information on one or more networks
network ls, network list | network:ls | [OPTIONS]
    List networks
network prune | prune:networks | [OPTIONS]
    Remove all unused networks
network rm, network remove | network:rm | NETWORK [NETWORK...]
    Remove one or more networks
volume create | volume:create | [OPTIONS] [VOLUME]
    Create a volume
volume export | volume:export | [OPTIONS] VOLUME
    Export a volume's content as a tar archive
volume import | volume:import | VOLUME [file|-]
    Import the content of a tar archive into a volume
volume inspect | inspect:of_kind | [OPTIONS] VOLUME [VOLUME...]
    Display detailed information on one or more volumes
volume ls, volume list | volume:ls | [OPTIONS]
    List volumes
volume prune | prune:volumes | [OPTIONS]
    Remove unused local volumes
volume rm, volume remove | volume:rm | [OPTIONS] VOLUME [VOLUME...]
    Remove one or more volumes
builder prune | prune:build_cache |
    Remove build cache
system df | system:df | [OPTIONS]
    Show wherry disk usage
system dial-stdio | dial_stdio:dial_stdio |
    Proxy the stdio stream to the daemon connection. Should not be invoked manually.
system events, events | system:events | [OPTIONS]
    Get real time events from the server
system info, info | system:info | [OPTIONS]
    Display system-wide information
system prune | prune:system | [OPTIONS]
    Remove unused data
system stop | daemon:stop |
    Stop the engine; its containers run on
manifest inspect | registry:inspect | [OPTIONS] [MANIFEST_LIST] MANIFEST
    Display an image manifest, or manifest list
version | version:version | [OPTIONS]
    Show the wherry version information
__complete | completion:complete | [WORD...]
    List what the last of some words may become
daemon | daemon:daemon | [OPTIONS]
    Run the engine in the foreground
completion | completion:completion | bash|fish|zsh
    Generate the completion script for a shell
inspect | inspect:inspect | [OPTIONS] NAME|ID [NAME|ID...]
    Return low-level information on Docker objects
login | auth:login | [OPTIONS] [SERVER]
    Authenticate to a registry
logout | auth:logout | [SERVER]
    Log out from a registry
search | registry:search | [OPTIONS] TERM
    Search Docker Hub for images
"""


def syntax(place: str) -> Callable[[Any], Any]:
    """`module.function` of options/, imported when it is called: the language of one flag."""
    module, _, name = place.partition(".")

    def parse(given: Any) -> Any:
        found = __import__(f"wherry.cli.options.{module}", fromlist=[name])
        return getattr(found, name)(given)

    return parse


class Entry:
    """A command. Little is made of its lines before it is asked for: of all that there are, one is run."""

    __slots__ = ("_names", "_rest", "short")

    def __init__(self, names: str, rest: str, short: str) -> None:
        self._names, self._rest, self.short = names, rest, short

    @property
    def place(self) -> str:
        return self._rest.partition(" |")[0]

    @property
    def usage(self) -> str:
        return self._rest.partition(" |")[2].strip()

    @property
    def hidden(self) -> bool:
        return self._names in HIDDEN

    @property
    def aliases(self) -> str:
        """All of its names, where it has several."""
        return ", ".join(f"wherry {name}" for name in self._names.split(", ")) if "," in self._names else ""

    def load(self) -> Command:
        from wherry.cli.session import Command

        module, _, name = self.place.partition(":")
        found = getattr(__import__(f"wherry.cli.{module}", fromlist=[name]), f"run_{name}")
        return found if isinstance(found, Command) else Command(found)

    @property
    def arguments(self) -> tuple[int, int | None]:
        """How few and how many arguments the usage says that there may be; None is any number."""
        words = [word for word in self.usage.split() if word != "[OPTIONS]"]
        least = sum(not word.startswith("[") for word in words)
        return least, None if words and words[-1].endswith("...]") else len(words)


class Group:
    """A command that only has others below it; `aliases` are other names for those, old to new."""

    __slots__ = ("aliases", "commands", "short")

    def __init__(self, short: str) -> None:
        self.short = short
        self.commands: dict[str, Entry] = {}
        self.aliases: dict[str, str] = {}

    def canonical(self, name: str) -> str:
        return self.aliases.get(name, name)

    def find(self, name: str) -> Entry | None:
        return self.commands.get(self.canonical(name))


TOP: dict[str, Entry | Group] = {name: Group(short) for name, short in GROUPS.items()}


def _fill() -> None:
    lines = _TABLE.strip().split("\n")
    for head, short in zip(lines[::2], lines[1::2], strict=True):
        names, _, rest = head.partition(" | ")
        entry = Entry(names, rest, short[4:])
        listed: dict[str, str] = {}
        for path in names.split(", "):
            first, _, name = path.partition(" ")
            group = TOP.get(first)
            if not name or not isinstance(group, Group):
                TOP[path] = entry
            elif listed.setdefault(first, name) == name:
                group.commands[name] = entry
            else:
                group.aliases[name] = listed[first]


_fill()
_IMAGE = TOP["image"]
assert isinstance(_IMAGE, Group)
_IMAGE.aliases["rmi"] = "rm"  # which docker takes, and no help tells of
