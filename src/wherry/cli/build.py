"""`build`: an image from a Dockerfile."""

from __future__ import annotations

import os
import sys

from wherry.cli import flags
from wherry.cli.command import CommandError, Session, command
from wherry.cli.container_flags import ULIMIT
from wherry.cli.flags import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from wherry.cli.building.output import Output

_EVENTS = "application/vnd.wherry.build+json"
_EPOCH = "SOURCE_DATE_EPOCH"


@command(
    flags.strings("add-host", "", "Add a custom host-to-IP mapping (\"host:ip\")", flags.syntax("networks.extra_host")),
    flags.strings("allow", "", "Allow extra privileged entitlement (e.g., \"security.insecure\")"),
    flags.strings("build-arg", "", "Set build-time variables", flags.syntax("process.environment")),
    flags.strings("cache-from", "", "Images to consider as cache sources"),
    flags.strings("cache-to", "", "Cache export destinations (\"inline\")"),
    flags.string("cgroup-parent", "", "Set the parent cgroup for the \"RUN\" instructions during build"),
    flags.switch("compress", "", "Compress the build context using gzip", hidden=True),
    flags.integer("cpu-period", "", "Limit the CPU CFS (Completely Fair Scheduler) period"),
    flags.integer("cpu-quota", "", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    flags.integer("cpu-shares", "c", "CPU shares (relative weight)"),
    flags.string("cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)"),
    flags.string("cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)"),
    flags.string("file", "f", "Name of the Dockerfile (default: \"PATH/Dockerfile\")"),
    flags.switch("force-rm", "", "Always remove intermediate containers", hidden=True),
    flags.string("iidfile", "", "Write the image ID to a file"),
    flags.string("isolation", "", "Container isolation technology", hidden=True),
    flags.strings("label", "", "Set metadata for an image", flags.syntax("process.label")),
    flags.size("memory", "m", "Memory limit"),
    flags.swap("Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    flags.string("network", "", "Set the networking mode for the \"RUN\" instructions during build"),
    flags.switch("no-cache", "", "Do not use cache when building the image"),
    flags.strings("output", "o", "Output destination (format: \"type=local,dest=path\")"),
    flags.string("platform", "", "Set target platform for build", os.environ.get("DOCKER_DEFAULT_PLATFORM", "")),
    flags.string("progress", "",
                 "Set type of progress output (\"auto\", \"plain\", \"tty\", \"rawjson\", \"quiet\")", "auto"),
    flags.switch("pull", "", "Always attempt to pull all referenced images"),
    flags.switch("quiet", "q", "Suppress the build output and print image ID on success"),
    flags.switch("rm", "", "Remove intermediate containers after a successful build", default=True, hidden=True),
    flags.strings("secret", "", "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")"),
    flags.strings("security-opt", "", "Security options"),
    flags.size("shm-size", "", "Shared memory size for build containers"),
    flags.switch("squash", "", "Squash newly built layers into a single new layer"),
    flags.strings("ssh", "",
                  "SSH agent socket to expose to the build (format: \"default|<id>[=<socket>]\")"),
    flags.strings("tag", "t", "Image identifier (format: \"[registry/]repository[:tag]\")"),
    flags.string("target", "", "Set the target build stage to build"),
    ULIMIT,
    arguments=(1, 1),
)  # fmt: skip
def run_build(session: Session, options: Options) -> int:
    from wherry.cli.auth import header_of_all
    from wherry.cli.building import context, given
    from wherry.cli.building.output import Output

    outputs = [Output(text) for text in options["output"]]
    tags = [*options["tag"], *(output.name for output in outputs if output.name)]
    _check_tags(tags)
    client = session.client
    found = context.find(client, options.arguments[0], options["file"])
    query = {"t": tags, **_query(session, options), **found.query}
    token = given.hand_over(client, options["secret"], options["ssh"], options["allow"])
    if token:
        query["given"] = token
    headers = {"Accept": _EVENTS, "Content-Type": "application/x-tar", **found.headers}
    if auth := header_of_all(session.config):
        headers["X-Registry-Config"] = auth
    response = client.request("POST", "/build", query=query, data=found.data, headers=headers)
    image = _follow(options, response.values())
    if isinstance(image, int):
        return image
    _finish(session, options, image, outputs)
    return 0


def _check_tags(tags: list[str]) -> None:
    from wherry.cli.reference import parse

    for tag in tags:
        try:
            parse(tag)
        except ValueError as error:
            raise CommandError(f'invalid tag "{tag}": {error}') from None


# What the API calls what the flags say; left out where that is nothing.
_QUERY = {
    "target": "target",
    "platform": "platform",
    "networkmode": "network",
    "nocache": "no-cache",
    "pull": "pull",
    "squash": "squash",
    "memory": "memory",
    "memswap": "memory-swap",
    "shmsize": "shm-size",
    **{name.replace("-", ""): name for name in ("cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems")},
    "cgroupparent": "cgroup-parent",
    "isolation": "isolation",
}


def _query(session: Session, options: Options) -> dict[str, Any]:
    return {
        **{field: options[flag] or None for field, flag in _QUERY.items()},
        "buildargs": _arguments(session, options) or None,
        "labels": dict(text.partition("=")[::2] for text in options["label"]) or None,
        "extrahosts": options["add-host"],
        "cachefrom": _json(_cache_sources(options["cache-from"])),
        "securityopt": options["security-opt"],
        "ulimits": _json(options["ulimit"]),
    }


def _json(values: list[Any]) -> str | None:
    from wherry.client.lean import dumps

    return dumps(values).decode() if values else None


def _arguments(session: Session, options: Options) -> dict[str, str | None]:
    """--build-arg, whose values come from the environment where they are not given; and docker's proxies."""
    found: dict[str, str | None] = {**session.proxies()}
    for text in options["build-arg"]:
        name, equals, value = text.partition("=")
        found[name] = value if equals else None
    if _EPOCH in os.environ:
        found.setdefault(_EPOCH, os.environ[_EPOCH])
    if any(_is_inline(text) for text in options["cache-to"]):
        found["BUILDKIT_INLINE_CACHE"] = "1"
    return found


def _is_inline(text: str) -> bool:
    if text not in ("inline", "type=inline"):
        raise CommandError(f"--cache-to {text}: only type=inline is supported, which keeps the cache with the image")
    return True


def _cache_sources(texts: list[str]) -> list[str]:
    """Images by name, or as `type=registry,ref=name`."""
    names = []
    for text in texts:
        fields = dict(field.partition("=")[::2] for field in text.split(",")) if "type=" in text else {"ref": text}
        if fields.get("type", "registry") != "registry" or not fields.get("ref"):
            raise CommandError(f"--cache-from {text}: expected the name of an image, or type=registry,ref=NAME")
        names.append(fields["ref"])
    return names


def _follow(options: Options, events: Any) -> dict[str, Any] | int:
    """Shows the progress; the event that says what was built, or the exit code."""
    from wherry.cli.building import display

    kind = options["progress"]
    if kind not in ("auto", "plain", "tty", "rawjson", "quiet"):
        raise CommandError(f'invalid progress "{kind}": expected auto, plain, tty, rawjson or quiet')
    progress = display.choose(kind, options["quiet"])
    built: dict[str, Any] = {}
    failed = True
    error: dict[str, Any] = {}
    try:
        for event in events:
            if kind == "rawjson":
                from wherry.client.lean import dumps

                sys.stderr.buffer.write(dumps(event) + b"\n")
                sys.stderr.flush()
            if "errorDetail" in event:
                error = event["errorDetail"]
            elif event.get("type") == "built":
                built = event
            elif kind != "rawjson":
                progress.take(event)
        failed = not built
    finally:
        progress.close(failed)
    if built:
        return built
    sys.stderr.write(f"ERROR: {error.get('message', 'the engine ended before the build did')}\n")
    return int(error.get("code") or 1)


def _finish(session: Session, options: Options, built: dict[str, Any], outputs: list[Output]) -> None:
    image, names = str(built["id"]), [str(name) for name in built["names"]]
    for output in outputs:
        try:
            output.write(session.client, image, [output.name] if output.name else names)
        except ValueError as error:
            raise CommandError(str(error)) from None
    if options["iidfile"]:
        with open(options["iidfile"], "w", encoding="ascii") as file:
            file.write(image)
    if outputs and not names and built["is_new"] and not any(output.keeps_image for output in outputs):
        session.client.delete(f"/images/{image}", noprune=True)  # it was only on its way
    if options["quiet"]:
        if not any(output.path == "-" for output in outputs):
            print(image)
    elif not outputs and options["progress"] != "rawjson":
        for name in names:
            sys.stderr.write(f"Built {name}\n")
        if not names:
            sys.stderr.write(f"Built {image}\n")
