"""`build`: an image from a Dockerfile."""

from __future__ import annotations

import binascii
import os
import sys

from wherry.cli.commands import syntax
from wherry.cli.container_flags import ULIMIT
from wherry.cli.session import CommandError, Session, command, reason
from wherry.client.streams import read_pieces
from wherry.common import flags
from wherry.common.flags import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from wherry.cli.build_output import Exports
    from wherry.client.blocking import Client

_EVENTS = "application/vnd.wherry.build+json"
_EPOCH = "SOURCE_DATE_EPOCH"


@command(
    flags.strings("add-host", "", "Add a custom host-to-IP mapping (\"host:ip\")", syntax("networks.extra_host")),
    flags.strings("allow", "", "Allow extra privileged entitlement (e.g., \"security.insecure\")"),
    flags.strings("annotation", "", "Add annotation to the image"),
    flags.strings("attest", "", "Attestation parameters (format: \"type=sbom,generator=image\")"),
    flags.strings("build-arg", "", "Set build-time variables", syntax("process.environment")),
    flags.string("call", "", "Set method for evaluating build (\"check\", \"outline\", \"targets\")", "build"),
    flags.switch("check", "", "Shorthand for \"--call=check\""),
    flags.string("print", "", "Print result of information request (e.g., outline, targets)", hidden=True),
    flags.strings("cache-from", "", "Images to consider as cache sources"),
    flags.strings("cache-to", "", "Cache export destinations (e.g., \"type=registry,ref=name\")"),
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
    flags.strings("label", "", "Set metadata for an image", syntax("process.label")),
    flags.switch("load", "", "Shorthand for \"--output=type=docker\""),
    flags.size("memory", "m", "Memory limit"),
    flags.string("metadata-file", "", "Write build result metadata to a file"),
    flags.swap("Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    flags.string("network", "", "Set the networking mode for the \"RUN\" instructions during build"),
    flags.switch("no-cache", "", "Do not use cache when building the image"),
    flags.strings("output", "o", "Output destination (format: \"type=local,dest=path\")"),
    flags.string("platform", "", "Set target platform for build", os.environ.get("DOCKER_DEFAULT_PLATFORM", "")),
    flags.string("progress", "",
                 "Set type of progress output (\"auto\", \"plain\", \"tty\", \"rawjson\", \"quiet\")", "auto"),
    flags.string("provenance", "", "Shorthand for \"--attest=type=provenance\""),
    flags.switch("pull", "", "Always attempt to pull all referenced images"),
    flags.switch("push", "", "Shorthand for \"--output=type=registry,unpack=false\""),
    flags.switch("quiet", "q", "Suppress the build output and print image ID on success"),
    flags.switch("rm", "", "Remove intermediate containers after a successful build", default=True, hidden=True),
    flags.string("sbom", "", "Shorthand for \"--attest=type=sbom\""),
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
    from wherry.cli.build_output import Exports

    exports = Exports(options)
    tags = list(dict.fromkeys([*options["tag"], *exports.names]))
    _check_tags(tags)
    client = session.client
    found = find_context(client, options.arguments[0], options["file"])
    query = {"t": tags, **_query(session, options), **found.query}
    token = hand_over(client, options["secret"], options["ssh"], options["allow"])
    if token:
        query["given"] = token
    headers = {"Accept": _EVENTS, "Content-Type": "application/x-tar", **found.headers}
    if auth := header_of_all(session.config):
        headers["X-Registry-Config"] = auth
    if asks := _called(options):
        subject, _, form = asks.partition(",")
        answer = client.images.build(found.data, {**query, "call": subject}, headers)
        return _print_answer(subject, form, answer.json())
    response = client.images.build(found.data, query, headers)
    image = _follow(options, response.values())
    if isinstance(image, int):
        return image
    _finish(session, options, image, exports)
    return 0


_CALLS = ("check", "outline", "targets", "lint", "subrequests.describe")
_FORMS = ("", "format=text", "format=json")


def _called(options: Options) -> str:
    """What is asked instead of building; "" for nothing. Raises CommandError."""
    if options["check"]:
        return "check"
    asks = options["print"] or options["call"]
    if asks == "build":
        return ""
    subject, _, form = asks.partition(",")
    if subject not in _CALLS or form not in _FORMS:
        raise CommandError(f'invalid value "{asks}" for --call: expected build, {", ".join(_CALLS[:3])}[,format=json]')
    return str(asks)


def _print_answer(subject: str, form: str, answer: dict[str, str]) -> int:
    text = answer["result.json"] + "\n" if form == "format=json" else answer["result.txt"]
    if subject in ("check", "lint") and form != "format=json":
        found = text.count("\nWARNING: ")
        said = "no warnings found." if not found else "1 warning" if found == 1 else f"{found} warnings"
        said = said if not found else f"{said} {'has' if found == 1 else 'have'} been found!"
        text = f"Check complete, {said}\n{text}"
    sys.stdout.write(text)
    return int(answer.get("result.statuscode", "0"))


def _check_tags(tags: list[str]) -> None:
    from wherry.common.reference import InvalidReference, parse

    for tag in tags:
        try:
            parse(tag)
        except InvalidReference as error:
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
    from wherry.client.c_modules import dumps

    return dumps(values).decode() if values else None


def _arguments(session: Session, options: Options) -> dict[str, str | None]:
    """--build-arg, whose values come from the environment where they are not given; and docker's proxies."""
    found: dict[str, str | None] = {**session.proxies()}
    for text in options["build-arg"]:
        name, equals, value = text.partition("=")
        found[name] = value if equals else None
    if _EPOCH in os.environ:
        found.setdefault(_EPOCH, os.environ[_EPOCH])
    if any(text in ("inline", "type=inline") for text in options["cache-to"]):
        found["BUILDKIT_INLINE_CACHE"] = "1"
    return found


def _cache_sources(texts: list[str]) -> list[str]:
    """Images by name, or as `type=registry,ref=name`."""
    names = []
    for text in texts:
        fields = _fields(text) if "type=" in text else {"ref": text}
        if fields.get("type", "registry") != "registry" or not fields.get("ref"):
            raise CommandError(f"--cache-from {text}: expected the name of an image, or type=registry,ref=NAME")
        names.append(fields["ref"])
    return names


def _fields(text: str) -> dict[str, str]:
    from wherry.common import key_values

    try:
        return {key: value for key, value, _ in key_values.pairs(text)}
    except ValueError as error:
        raise CommandError(f"invalid value {text}: {error}") from None


def _follow(options: Options, events: Any) -> dict[str, Any] | int:
    """Shows the progress; the event that says what was built, or the exit code."""
    from wherry.cli import build_progress

    kind = options["progress"]
    if kind not in ("auto", "plain", "tty", "rawjson", "quiet"):
        raise CommandError(f'invalid progress "{kind}": expected auto, plain, tty, rawjson or quiet')
    progress = build_progress.choose(kind, options["quiet"])
    built: dict[str, Any] = {}
    failed = True
    error: dict[str, Any] = {}
    try:
        for event in events:
            if kind == "rawjson":
                from wherry.client.c_modules import dumps

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


def _finish(session: Session, options: Options, built: dict[str, Any], exports: Exports) -> None:
    image, names = str(built["id"]), [str(name) for name in built["names"]]
    exports.write(session, built)
    if options["iidfile"]:
        with open(options["iidfile"], "w", encoding="ascii") as file:
            file.write(image)
    if exports.outputs and not names and built["is_new"] and not exports.keeps_image:
        for each in (built.get("images") or {"": image}).values():
            session.client.images.remove(each, noprune=True)  # it was only on its way
    if options["quiet"]:
        if not exports.uses_stdout:
            print(image)
    elif not exports.outputs and options["progress"] != "rawjson":
        for name in names:
            sys.stderr.write(f"Built {name}\n")
        if not names:
            sys.stderr.write(f"Built {image}\n")


# What is built from: a folder, a tar on standard input, an address that the engine fetches itself.
#
# A folder on the engine's own machine is named instead of sent, where the engine may trust this user: it runs as the
# same one. Otherwise it is sent as a tar, without what .dockerignore leaves out.

_ADDRESSES = ("http://", "https://", "git://", "git@", "ssh://", "github.com/")


class Context:
    """`data` is the body of the request, None for none; `query` and `headers` are what the request says of it."""

    def __init__(
        self,
        data: Iterable[bytes | memoryview] | None = None,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.data = data
        self.query = query or {}
        self.headers = headers or {}


def find_context(client: Client, path: str, dockerfile: str) -> Context:
    """The context that the command line names, with its Dockerfile ("" for the usual one, "-" on standard input).

    Raises CommandError.
    """
    if path == "-":
        if dockerfile == "-":
            raise CommandError("invalid argument: can't use stdin for both build context and dockerfile")
        return Context(read_pieces(0), {"dockerfile": dockerfile} if dockerfile else {})
    if path.startswith(_ADDRESSES):
        if dockerfile == "-":
            raise CommandError("a Dockerfile on standard input needs a folder as its context")
        return Context(None, {"remote": path} | ({"dockerfile": dockerfile} if dockerfile else {}))
    directory = os.path.realpath(path)
    if not os.path.isdir(directory):
        raise CommandError(f'unable to prepare context: path "{path}" not found')
    name, text, ignore = _dockerfile(directory, dockerfile)
    if _is_on_this_machine(client):
        return _named(directory, name, text, ignore)
    from wherry.client.context import OUTSIDE, pack

    if text is not None:
        return Context(pack(directory, OUTSIDE, text, ignore), {"dockerfile": OUTSIDE, "outside": name})
    return Context(pack(directory, name), {"dockerfile": name} if name else {})


def _dockerfile(directory: str, dockerfile: str) -> tuple[str, bytes | None, bytes | None]:
    """The Dockerfile's name in the context; when it is not in there, its text and that of a .dockerignore beside it."""
    if not dockerfile:
        return "", None, None
    if dockerfile == "-":
        return "Dockerfile", sys.stdin.buffer.read(), None
    path = os.path.realpath(dockerfile)
    if not os.path.isfile(path) and os.path.isfile(os.path.join(directory, dockerfile)):
        path = os.path.realpath(os.path.join(directory, dockerfile))
    relative = os.path.relpath(path, directory)
    if not relative.startswith("../") and os.path.exists(path):
        return relative, None, None
    try:
        with open(path, "rb") as file:
            text = file.read()
        if not os.path.isfile(f"{path}.dockerignore"):
            return os.path.basename(path), text, None
        with open(f"{path}.dockerignore", "rb") as file:
            return os.path.basename(path), text, file.read()
    except OSError as error:
        raise CommandError(f"unable to evaluate Dockerfile path: open {error.filename}: {reason(error)}") from None


def _is_on_this_machine(client: Client) -> bool:
    """Whether the engine listens on a unix socket that is this user's own."""
    if client.host.scheme != "unix":
        return False
    try:
        return os.stat(client.host.path).st_uid == os.geteuid()
    except OSError:
        return os.geteuid() == 0  # it is about to be started


def _named(directory: str, name: str, text: bytes | None, ignore: bytes | None) -> Context:
    facts = os.stat(directory)
    headers = {
        "X-Wherry-Context": _base64(os.fsencode(directory)),
        "X-Wherry-Context-Identity": f"{facts.st_dev}:{facts.st_ino}",
    }
    query = {"dockerfile": name} if name else {}
    if text is None:
        return Context(None, query, headers)
    import json

    headers["Content-Type"] = "application/json"
    outside = {"dockerfile": _base64(text), "ignore": None if ignore is None else _base64(ignore)}
    return Context([json.dumps(outside).encode()], query, headers)


def _base64(data: bytes) -> str:
    import binascii

    return binascii.b2a_base64(data, newline=False).decode()


# Secrets and ssh agents: what a build may see and no image may keep. They go to the engine in their own request.

_LARGEST = 500 << 10  # bytes of a secret, as in BuildKit


def hand_over(client: Client, secrets: list[str], ssh: list[str], allow: list[str]) -> str:
    """The word that the build's request names it by; "" when there is nothing. Raises CommandError."""
    if not (secrets or ssh or allow):
        return ""
    body = {
        "secrets": dict(_secret(text) for text in secrets),
        "ssh": dict(_agent(text) for text in ssh),
        "allow": allow,
    }
    return client.images.give(body)


def _secret(text: str) -> tuple[str, str]:
    """`id=name,src=path` or `id=name,env=VARIABLE`; with the id alone the variable or the file of that name."""
    fields = {{"source": "src"}.get(key, key): value for key, value in _fields(text).items()}
    unknown = set(fields) - {"id", "src", "env", "type"}
    if unknown:
        raise CommandError(f"unexpected key '{min(unknown)}' in '{text}'")
    kind, path, variable = fields.get("type", ""), fields.get("src", ""), fields.get("env", "")
    if kind not in ("", "file", "env"):
        raise CommandError(f'unsupported secret type "{kind}"')
    if kind == "env" and path:
        path, variable = "", path
    name = fields.get("id") or os.path.basename(path) or variable
    if not name:
        raise CommandError(f"a secret has no id: {text}")
    if not path and not variable:
        path, variable = ("", name) if name in os.environ else (name, "")
    content = os.environb.get(os.fsencode(variable)) if variable else _read(path)
    if content is None:
        raise CommandError(f"secret {name}: the environment has no variable {variable}")
    if len(content) > _LARGEST:
        raise CommandError(f"invalid secret size {len(content)}: at most {_LARGEST} bytes")
    return name, binascii.b2a_base64(content, newline=False).decode()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST + 1)
    except OSError as error:
        raise CommandError(f"failed to stat {path}: {reason(error)}") from None


def _agent(text: str) -> tuple[str, str]:
    """`default` or `id=socket`."""
    name, _, path = text.partition("=")
    path = path or os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise CommandError(f"invalid empty ssh agent socket: SSH_AUTH_SOCK is not set, for --ssh {text}")
    path = os.path.realpath(path)
    if not os.path.exists(path):
        raise CommandError(f"--ssh {text}: {path} is not there")
    if os.path.isfile(path):
        raise CommandError(f"--ssh {text}: {path} is a key: add it to an agent with ssh-add, and give the agent")
    return name, path
