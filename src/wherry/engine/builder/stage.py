"""One stage: its instructions from the first to the last, each found in the cache or carried out.

What the files are is a ``Tree``; what the image says is a configuration; both change from step to step. A step can be
found in the cache as long as the files before it were: until its digest is known a new layer has no name that a key
could be made of.
"""

import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from wherry.dockerfile import instructions as ins
from wherry.dockerfile.config import configure, expand_instruction, join_directory, sets_command
from wherry.dockerfile.stages import Stage, StageArguments
from wherry.engine.builder import history, progress
from wherry.engine.builder.progress import Tell
from wherry.model.container import ContainerConfig
from wherry.model.image import History
from wherry.storage.build_cache import Record
from wherry.storage.build_snapshots import ActiveSnapshot, Tree, Workspace
from wherry.storage.worker import client, jobs

# What a step depends on, as one digest: the same digest, the same result.
#
# The parent's layers, the instruction after its variables are replaced, the configuration that it runs with, and the
# contents of what it copies. Neither times nor names of files on this machine count, so a key is the same everywhere.

_VERSION = 1  # counts up when steps come to do something else
_encode = msgspec.json.Encoder(order="deterministic").encode


def step_inputs(kind: str, **inputs: Any) -> str:
    """A digest of everything but the parent."""
    return hashlib.sha256(_encode([_VERSION, kind, inputs])).hexdigest()


def step_key(parent: str, inputs: str) -> str:
    """``parent`` is the chain id that the step begins with, "" for nothing."""
    return hashlib.sha256(f"{parent} {inputs}".encode()).hexdigest()


class Step(msgspec.Struct, frozen=True):
    """One line of the image's history. ``snapshot`` is its new layer, ``chain_id`` one that was found in the cache."""

    created_by: str
    created: int
    snapshot: ActiveSnapshot | None = None
    chain_id: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What a stage has come to so far. ``base`` is the history of the image that it began with, ``image`` the id.

    ``arguments`` are those that it ends with, which stages based on it inherit.
    """

    tree: Tree = Tree()
    config: ContainerConfig = msgspec.field(default_factory=ContainerConfig)
    author: str = ""
    base: tuple[History, ...] = ()
    image: str = ""
    steps: tuple[Step, ...] = ()
    platform: tuple[str, str, str] = ("linux", "amd64", "")  # operating system, architecture, variant
    arguments: StageArguments | None = None


class Result(msgspec.Struct, frozen=True):
    """What is to be noted in the cache, once the digests are known."""

    inputs: str
    before: Tree
    after: Tree
    description: str
    created: int


class Plan(msgspec.Struct, frozen=True):
    """How a step that changes files is carried out. ``work`` gives the snapshot, or None when nothing changed."""

    inputs: str
    created_by: str
    work: Callable[[Tree], Awaitable[ActiveSnapshot | None]]


class Walker:
    """Walks one stage. ``plan`` turns the large instructions (RUN, COPY, ADD) into plans."""

    def __init__(
        self,
        stage: Stage,
        first_step: int,
        outcome: Outcome,
        arguments: StageArguments,
        *,
        escape: str,
        workspace: Workspace,
        find: Callable[[str], Awaitable[Record | None]],
        epoch: int | None,
        tell: Tell,
        plan: "Callable[[Walker, ins.Run | ins.Copy | ins.Add], Awaitable[Plan]]",
    ) -> None:
        """``find`` looks a step's key up in the cache. ``epoch`` is SOURCE_DATE_EPOCH, in nanoseconds."""
        self.stage = stage
        self.outcome = outcome
        self.arguments = arguments
        self.results: list[Result] = []
        self.found: list[Record] = []
        self.step = first_step
        self._escape = escape
        self._workspace = workspace
        self._look_up = find
        self._epoch = epoch
        self._tell = tell
        self._plan = plan
        self._command_set = False
        self._begun = 0.0

    @property
    def config(self) -> ContainerConfig:
        return self.outcome.config

    @property
    def working_directory(self) -> str:
        return self.config.working_dir or "/"

    def variables(self) -> dict[str, str]:
        return self.arguments.variables(self.config.env or ())

    async def walk(self) -> Outcome:
        """Carries out every instruction. Raises EngineError."""
        for instruction in self.stage.instructions:
            position = instruction.position
            self.begin(position.code or position.text or instruction.keyword, position.line)
            cached = await self._carry_out(instruction)
            self.end(cached)
        return replace(self.outcome, arguments=self.arguments)

    def begin(self, text: str, line: int) -> None:
        self._begun = time.monotonic()
        self._tell(progress.Begun(self.step, self.stage.index, self.stage.label, text, line))

    def end(self, cached: bool) -> None:
        took = time.monotonic() - self._begun
        steps = self.outcome.steps
        state = step_inputs("state", tree=self.outcome.tree.known, step=steps[-1:] and self.step)
        if self.outcome.image and not steps:
            state = self.outcome.image.removeprefix("sha256:")
        self._tell(progress.Done(self.step, self.stage.index, cached, took, state[:12]))
        self.step += 1

    async def _carry_out(self, written: ins.Instruction) -> bool:
        """Whether it was found in the cache."""
        if isinstance(written, ins.Arg):
            description = history.argument(written, self.variables(), self._escape)
            self.arguments = self.arguments.declare(written, self.config.env or ())
            return await self._note(description)
        instruction = expand_instruction(written, self.variables(), escape=self._escape)
        if isinstance(instruction, ins.Run | ins.Copy | ins.Add):
            return await self._change_files(await self._plan(self, instruction))
        config = configure(self.config, instruction, command_set=self._command_set)
        self._command_set = self._command_set or sets_command(instruction)
        if isinstance(instruction, ins.Workdir):
            return await self._work_in(instruction, config)
        if isinstance(instruction, ins.Env):
            self.arguments = self.arguments.after_env(pair.key for pair in instruction.pairs)
        if isinstance(instruction, ins.Maintainer):
            self.outcome = replace(self.outcome, author=instruction.maintainer)
        self.outcome = replace(self.outcome, config=config)
        if isinstance(instruction, ins.OnBuild):
            return False  # only the configuration tells of it, in Docker too
        return await self._note(history.configuration(instruction, config))

    async def _note(self, description: str) -> bool:
        """A step without files. The cache only remembers when it was first there."""
        inputs = step_inputs("configure", text=description, config=self.config, epoch=self._epoch)
        found = await self._find(inputs)
        created = found.created if found else self._now()
        self._add(Step(description, created))
        if found is None:
            self._remember(inputs, self.outcome.tree, description, created)
        return found is not None

    async def _work_in(self, instruction: ins.Workdir, config: ContainerConfig) -> bool:
        path = join_directory(self.config.working_dir, instruction.path)
        user = config.user
        self.outcome = replace(self.outcome, config=config)
        description = history.workdir(path)

        async def work(tree: Tree) -> ActiveSnapshot | None:
            if self._workspace.is_directory(tree, path):
                return None
            snapshot = self._workspace.begin(tree)
            mounts = self._workspace.mounts(tree, snapshot)
            await client.run(jobs.MakeDirectory(root=mounts, path=path, user=user))
            return snapshot

        inputs = step_inputs("workdir", path=path, user=user, epoch=self._epoch)
        return await self._change_files(Plan(inputs, description, work))

    async def _change_files(self, plan: Plan) -> bool:
        before = self.outcome.tree
        found = await self._find(plan.inputs)
        if found is not None:
            self.outcome = replace(self.outcome, tree=Tree(found.chain_id))
            self._add(Step(plan.created_by, found.created, chain_id=self._new(before.chain_id, found.chain_id)))
            return True
        snapshot = await plan.work(before)
        if snapshot is not None and snapshot.is_empty:
            snapshot = None
        if snapshot is not None:
            if self._epoch is not None:
                await self._workspace.set_latest(snapshot, self._epoch)
            self._workspace.seal(snapshot)
            self.outcome = replace(self.outcome, tree=before.on(snapshot))
        created = self._now()
        self._add(Step(plan.created_by, created, snapshot))
        self._remember(plan.inputs, before, plan.created_by, created)
        return False

    async def _find(self, inputs: str) -> Record | None:
        known = self.outcome.tree.known
        found = await self._look_up(step_key(known, inputs)) if known is not None else None
        if found is not None:
            self.found.append(found)
            self._workspace.hold(found.chain_id)
        return found

    def _add(self, step: Step) -> None:
        self.outcome = replace(self.outcome, steps=(*self.outcome.steps, step))

    def _remember(self, inputs: str, before: Tree, description: str, created: int) -> None:
        self.results.append(Result(inputs, before, self.outcome.tree, description, created))

    def _now(self) -> int:
        return time.time_ns() if self._epoch is None else self._epoch

    @staticmethod
    def _new(before: str, after: str) -> str:
        return after if after != before else ""
