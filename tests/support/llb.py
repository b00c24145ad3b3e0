"""Graphs made by hand: an encoder of operations, as BuildKit's own library writes them."""

from typing import Any

from wherry.buildkit import messages
from wherry.storage.content import digest_of

NOTHING = -1


class Definition:
    """Operations in the order in which they were added. ``at`` is what an input says of one."""

    def __init__(self) -> None:
        self.ops: list[bytes] = []
        self.metadata: dict[str, dict[str, str]] = {}

    def add(self, *inputs: Any, name: str = "", **op: Any) -> Any:
        """An operation; the input that its first output is."""
        data = messages.Op(inputs=inputs, **op).SerializeToString()
        self.ops.append(data)
        digest = digest_of(data)
        self.metadata[digest] = {"llb.customname": name} if name else {}
        return messages.Input(digest=digest)

    def image(self, name: str) -> Any:
        return self.add(source=messages.SourceOp(identifier=f"docker-image://{name}"))

    def source(self, identifier: str, **attributes: str) -> Any:
        named = {name.replace("_", "."): value for name, value in attributes.items()}
        return self.add(source=messages.SourceOp(identifier=identifier, attrs=named))

    def run(self, root: Any, *words: str, mounts: Any = (), inputs: Any = (), name: str = "", **more: Any) -> Any:
        """A command upon ``root``; what it makes of that. ``mounts`` begin with input 1, ``inputs`` are theirs."""
        meta = messages.Meta(args=words, cwd="/", env=["PATH=/bin"], **more.pop("meta", {}))
        root_mount = messages.MountOp(input=0, dest="/", output=0)
        exec_ = messages.ExecOp(meta=meta, mounts=[root_mount, *mounts], **more)
        return self.add(root, *inputs, exec=exec_, name=name)

    def file(self, *inputs: Any, actions: Any) -> Any:
        return self.add(*inputs, file=messages.FileOp(actions=actions))

    def end(self, *inputs: Any) -> Any:
        """The whole, with its last operation."""
        ops = [*self.ops, messages.Op(inputs=inputs).SerializeToString()]
        made = messages.Definition(def_=ops)
        for digest, description in self.metadata.items():
            made.metadata[digest].description.update(description)
        return made


def action(kind: str, *, input: int = 0, second: int = NOTHING, output: int = 0, **said: Any) -> Any:
    classes = {"copy": messages.FileCopy, "mkfile": messages.FileMkFile, "mkdir": messages.FileMkDir,
               "rm": messages.FileRm, "symlink": messages.FileSymlink}  # fmt: skip
    if kind != "rm":
        said = {"timestamp": NOTHING} | said
    if kind == "copy":
        said = {"mode": NOTHING} | said
    return messages.FileAction(input=input, second=second, output=output, **{kind: classes[kind](**said)})
