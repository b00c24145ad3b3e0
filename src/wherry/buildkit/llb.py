"""Reads a graph as BuildKit's own library writes it (LLB) into the builder's words, and checks it.

Whoever sent it may be hostile: what it refers to has to be there and come before, counts have limits, and what the
engine does not do is refused, never passed over.
"""

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from wherry.buildkit import messages
from wherry.common.errors import InvalidParameter, NotSupported
from wherry.dockerfile.instructions import Mount, Sharing
from wherry.engine.builder import graph
from wherry.engine.builder.graph import NOTHING, Action, Bind, Edge, Graph, Source, Vertex
from wherry.engine.builder.request import Limits
from wherry.model.container import Ulimit
from wherry.storage.content import digest_of

_MOST_OPS = 10_000
_MOST_PARTS = 1_000  # inputs, mounts or actions of one op
_BIND, _SECRET, _SSH, _CACHE, _TMPFS = range(5)
_SHARING: tuple[Sharing, ...] = ("shared", "private", "locked")
_NETWORKS = ("", "host", "none")
_DEFINITION = "buildkit.llb.definition"


def read(data: bytes) -> Graph:
    """A graph that stands in a file. Raises InvalidParameter, NotSupported."""
    try:
        definition = messages.Definition.FromString(data)
    except DecodeError:
        raise InvalidParameter("the graph of the build cannot be read") from None
    return read_definition(definition)


def read_definition(definition: Any) -> Graph:
    """Raises InvalidParameter for what is no graph, NotSupported for what is not done."""
    if not definition.def_:
        return Graph()
    if len(definition.def_) > _MOST_OPS:
        raise InvalidParameter(f"the graph of the build has more than {_MOST_OPS} operations")
    digests = [digest_of(data) for data in definition.def_]
    try:
        ops = {digest: messages.Op.FromString(data) for digest, data in zip(digests, definition.def_, strict=True)}
    except DecodeError:
        raise InvalidParameter("the graph of the build cannot be read") from None
    end = ops[digests[-1]]
    if _kind(end) or len(end.inputs) != 1:
        raise InvalidParameter("the graph of the build has no end: expected an operation with one input, and no other")
    order = _order(ops, end.inputs[0].digest)
    places = {digest: place for place, digest in enumerate(order)}
    vertices: list[Vertex] = []
    for digest in order:
        vertices.append(_vertex(ops[digest], places, vertices, definition.metadata.get(digest)))
    return Graph(tuple(vertices), _edge(end.inputs[0], places, vertices))


def _order(ops: dict[str, Any], last: str) -> list[str]:
    """What the last operation needs, each after its inputs."""
    order: list[str] = []
    seen: dict[str, bool] = {}  # whether all below it is in order already
    pending = [last]
    while pending:
        digest = pending[-1]
        op = ops.get(digest)
        if op is None:
            raise InvalidParameter(f"the graph of the build is not whole: there is no operation {digest}")
        if len(op.inputs) > _MOST_PARTS:
            raise InvalidParameter(f"an operation has more than {_MOST_PARTS} inputs")
        if digest in seen:
            pending.pop()
            if not seen[digest]:
                seen[digest] = True
                order.append(digest)
            continue
        seen[digest] = False
        for each in op.inputs:
            if seen.get(each.digest) is False:
                raise InvalidParameter("the graph of the build goes round in a circle")
            if each.digest not in seen:
                pending.append(each.digest)
    return order


def _kind(op: Any) -> str:
    kinds = [name for name in _READERS if op.HasField(name)]
    if len(kinds) > 1:
        raise InvalidParameter(f"an operation is of several kinds: {', '.join(kinds)}")
    return kinds[0] if kinds else ""


def _vertex(op: Any, places: dict[str, int], before: list[Vertex], metadata: Any) -> Vertex:
    kind = _kind(op)
    if not kind:
        raise NotSupported("an operation is of a kind that is not supported: expected " + ", ".join(_READERS))
    inputs = tuple(_edge(each, places, before) for each in op.inputs)
    found = _READERS[kind](op, len(inputs))
    said = dict(metadata.description) if metadata is not None else {}
    name = said.get("llb.customname", "") or _describe(found)
    return Vertex(found, inputs, name, metadata is not None and metadata.ignore_cache)


def _edge(said: Any, places: dict[str, int], before: list[Vertex]) -> Edge:
    vertex = places[said.digest]
    count = _outputs(before[vertex])
    if not 0 <= said.index < count:
        raise InvalidParameter(f"an operation has {count} outputs, and its output {said.index} is asked for")
    return Edge(vertex, said.index)


def _outputs(vertex: Vertex) -> int:
    match vertex.op:
        case graph.Exec():
            return sum(bind.output != NOTHING for bind in vertex.op.binds)
        case graph.File():
            return sum(action.output != NOTHING for action in vertex.op.actions)
    return 1


def _input(number: int, count: int, *, may_be_nothing: bool = True) -> int:
    if number == NOTHING and may_be_nothing:
        return NOTHING
    if not 0 <= number < count:
        raise InvalidParameter(f"an operation has {count} inputs, and its input {number} is asked for")
    return number


def _check_outputs(numbers: list[int]) -> None:
    wanted = sorted(number for number in numbers if number != NOTHING)
    if wanted != list(range(len(wanted))):
        raise InvalidParameter(f"the outputs of an operation are {wanted}: expected each number from 0 on once")


def _few(parts: Any, what: str) -> Any:
    if len(parts) > _MOST_PARTS:
        raise InvalidParameter(f"an operation has more than {_MOST_PARTS} {what}")
    return parts


# --- sources


def _source(op: Any, count: int) -> Source:
    scheme, colon, rest = op.source.identifier.partition("://")
    if not colon:
        raise InvalidParameter(f"invalid source {op.source.identifier}: expected scheme://…")
    if count:
        raise InvalidParameter(f"source {op.source.identifier} has inputs")
    platform = op.platform
    parts = (platform.os, platform.architecture, platform.variant)
    return Source(scheme, rest, dict(op.source.attrs), "/".join(filter(None, parts)))


# --- exec


def _exec(op: Any, count: int) -> graph.Exec:
    said, meta = op.exec, op.exec.meta
    if not meta.args:
        raise InvalidParameter("arguments are required")
    if said.devices:
        raise NotSupported("devices of a step are not supported")
    if said.network not in range(len(_NETWORKS)) or said.security not in (0, 1):
        raise InvalidParameter(f"unknown network {said.network} or security {said.security} of a step")
    binds = tuple(_bind(each, count) for each in _few(said.mounts, "mounts") if each.type == _BIND)
    targets = [bind.target for bind in binds]
    if "/" not in targets or len(set(targets)) != len(targets):
        raise InvalidParameter("a step needs one root, mounted at /, and nothing mounted twice in one place")
    _check_outputs([bind.output for bind in binds])
    mounts = [_mount(each) for each in said.mounts if each.type != _BIND]
    mounts += [
        Mount(text="", type="secret", cache_id=each.id, environment=each.name, required=not each.optional)
        for each in said.secret_env
    ]
    return graph.Exec(
        tuple(meta.args),
        (*meta.env, *_proxies(meta.proxy)),
        meta.cwd,
        meta.user,
        binds,
        tuple(mounts),
        network=_NETWORKS[said.network],
        insecure=bool(said.security),
        hostname=meta.hostname,
        extra_hosts=tuple(f"{each.host}:{each.ip}" for each in meta.extra_hosts),
        limits=Limits(
            ulimits=tuple(Ulimit(name=each.name, soft=each.soft, hard=each.hard) for each in meta.ulimits),
            cgroup_parent=meta.cgroup_parent,
        ),
        exit_codes=tuple(meta.valid_exit_codes) or (0,),
        architecture=op.platform.architecture,
    )


def _proxies(proxy: Any) -> list[str]:
    names = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
    values = {name: getattr(proxy, name) for name in names}
    return [f"{each}={value}" for name, value in values.items() if value for each in (name.upper(), name)]


def _bind(said: Any, count: int) -> Bind:
    target = _target(said.dest)
    if said.selector and said.output != NOTHING:
        raise NotSupported(f"mount {target} of a step: a part of an input that is an output is not supported")
    output = said.output if said.output >= 0 else NOTHING
    return Bind(target, _input(said.input, count), output, said.selector, said.readonly)


def _mount(said: Any) -> Mount:
    target = _target(said.dest)
    match said.type:
        case 1:
            secret = said.secret
            return Mount(
                text="", type="secret", target=target, cache_id=secret.id, required=not secret.optional,
                uid=secret.uid, gid=secret.gid, mode=secret.mode,
            )  # fmt: skip
        case 2:
            ssh = said.ssh
            return Mount(
                text="", type="ssh", target=target, cache_id=ssh.id, required=not ssh.optional,
                uid=ssh.uid, gid=ssh.gid, mode=ssh.mode,
            )  # fmt: skip
        case 3:
            if said.input != NOTHING:
                raise NotSupported(f"cache mount {target}: files to begin with are not supported")
            if said.cache.sharing not in range(len(_SHARING)):
                raise InvalidParameter(f"cache mount {target}: unknown sharing {said.cache.sharing}")
            sharing = _SHARING[said.cache.sharing]
            return Mount(
                text="", type="cache", target=target, cache_id=said.cache.id, sharing=sharing,
                read_only=said.readonly,
            )  # fmt: skip
        case 4:
            return Mount(text="", type="tmpfs", target=target, size=max(said.tmpfs.size, 0))
    raise NotSupported(f"mount {target}: type {said.type} is not supported")


def _target(path: str) -> str:
    clean = graph.clean(path)
    if "\0" in path or not path:
        raise InvalidParameter("a mount of a step needs a place")
    return clean


# --- file


def _file(op: Any, count: int) -> graph.File:
    actions = [_action(each, count, number) for number, each in enumerate(_few(op.file.actions, "actions"))]
    if not actions:
        raise InvalidParameter("a file operation without actions")
    _check_outputs([action.output for action in actions])
    return graph.File(tuple(actions))


def _action(said: Any, inputs: int, number: int) -> Action:
    kinds = [name for name in ("copy", "mkfile", "mkdir", "rm", "symlink") if said.HasField(name)]
    if len(kinds) != 1:
        raise NotSupported("an action of a file operation is of no kind that is supported")
    known = inputs + number  # the results of the actions before count, too
    output = said.output if said.output >= 0 else NOTHING
    action = getattr(said, kinds[0])
    if kinds[0] == "copy":
        return Action(_copy(action), _input(said.input, known), _input(said.second, known), output)
    return Action(graph.Change(_change(kinds[0], action)), _input(said.input, known), NOTHING, output)


def _copy(said: Any) -> graph.Copy:
    if said.always_replace:
        raise NotSupported("copying in place of what is of another kind is not supported")
    source, destination = graph.clean(said.src), graph.clean(said.dest)
    if said.dest.endswith("/") and destination != "/":
        destination += "/"
    return graph.Copy(
        source.lstrip("/") or ".",
        destination,
        said.allow_wildcard,
        tuple(said.include),
        tuple(said.exclude),
        {
            "chown": _owner(said.owner),
            "chmod": said.mode_text or (f"{said.mode:o}" if said.mode >= 0 else ""),
            "follow": said.follow_symlink,
            "whole": not said.dir_copy_contents,
            "unpack": said.unpack,
            "make_parents": said.create_dest_path,
            "optional": said.allow_empty_wildcard,
            "time": said.timestamp,
        },
    )


def _change(kind: str, said: Any) -> dict[str, str | int | bool]:
    if kind == "rm":
        path = graph.clean(said.path)
        return {"kind": kind, "path": path, "wildcard": said.allow_wildcard, "optional": said.allow_not_found}
    common: dict[str, str | int | bool] = {"kind": kind, "owner": _owner(said.owner), "time": said.timestamp}
    if kind == "symlink":
        return {**common, "path": graph.clean(said.newpath), "target": said.oldpath}
    if not 0 <= said.mode <= 0o7777:
        raise InvalidParameter(f"{kind} {said.path}: invalid mode {said.mode:o}")
    common |= {"path": graph.clean(said.path), "mode": said.mode}
    return {**common, "parents": said.make_parents} if kind == "mkdir" else {**common, "data": _text(said.data)}


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _owner(said: Any) -> str:
    """The owner as --chown takes it; "" for none. Names are looked up in the files that are changed."""
    user, group = _user(said.user), _user(said.group)
    if not user and not group:
        return ""
    return f"{user or '0'}:{group}" if group else user


def _user(said: Any) -> str:
    if said.HasField("by_name"):
        if ":" in said.by_name.name:
            raise InvalidParameter(f"invalid user {said.by_name.name}")
        return str(said.by_name.name)
    return str(said.by_id) if said.by_id else ""


# --- the others


def _merge(op: Any, count: int) -> graph.Merge:
    if len(op.merge.inputs) < 2:
        raise InvalidParameter("a merge needs two inputs at least")
    return graph.Merge(tuple(_input(each.input, count) for each in _few(op.merge.inputs, "inputs")))


def _diff(op: Any, count: int) -> graph.Diff:
    return graph.Diff(_input(op.diff.lower.input, count), _input(op.diff.upper.input, count))


def _build(op: Any, count: int) -> graph.Nested:
    said = op.build
    if said.builder != NOTHING:
        raise NotSupported("a build operation with a builder of its own is not supported: expected a graph in a file")
    if _DEFINITION not in said.inputs:
        raise InvalidParameter(f"a build operation without the input {_DEFINITION}")
    number = _input(said.inputs[_DEFINITION].input, count, may_be_nothing=False)
    return graph.Nested(number, said.attrs.get("llbbuild.filename", _DEFINITION))


_READERS: dict[str, Callable[[Any, int], Any]] = {
    "exec": _exec, "source": _source, "file": _file, "build": _build, "merge": _merge, "diff": _diff,
}  # fmt: skip


def _describe(op: Any) -> str:
    """What people are shown of an op."""
    match op:
        case Source():
            return f"{op.scheme}://{op.rest}"
        case graph.Exec():
            return " ".join(op.words)
        case graph.File():
            first = op.actions[0].what
            if isinstance(first, graph.Copy):
                return f"copy {first.source} {first.destination}"
            return f"{first.job['kind']} {first.job['path']}"
        case graph.Nested():
            return "load a graph from a file"
    return "merge" if isinstance(op, graph.Merge) else "diff"
