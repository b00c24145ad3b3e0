"""One stage: its instructions from the first to the last, each found in the cache or carried out (``steps``).

What the files are is a ``Tree``; what the image says is a configuration; both change from step to step. A step can be
found in the cache as long as the files before it were: what it made stands on them. Only a ``COPY --link`` stands on
nothing, and is found whatever came before it.
"""

import time
from collections.abc import Awaitable, Callable

import msgspec
from msgspec.structs import replace

from wherry.dockerfile import instructions as ins
from wherry.dockerfile.config import configure, expand_instruction, join_directory, sets_command
from wherry.dockerfile.stages import Stage, StageArguments
from wherry.engine.builder import history, progress
from wherry.engine.builder.progress import Tell
from wherry.engine.builder.steps import Plan, Result, Steps, step_inputs, step_key
from wherry.model.container import ContainerConfig
from wherry.model.image import History
from wherry.storage.build_snapshots import ActiveSnapshot, Tree, Workspace


class Step(msgspec.Struct, frozen=True):
    """One line of the image's history. ``snapshot`` is its new layer, ``chain_id`` one that was found in the cache."""

    created_by: str
    created: int
    snapshot: ActiveSnapshot | None = None
    chain_id: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What a stage has come to so far. ``base`` is the history of the image that it began with, ``image`` the id.

    ``key`` is that of the last step that could have changed files. ``arguments`` are those that it ends with, which
    stages based on it inherit.
    """

    tree: Tree = Tree()
    key: str = ""
    config: ContainerConfig = msgspec.field(default_factory=ContainerConfig)
    author: str = ""
    base: tuple[History, ...] = ()
    image: str = ""
    steps: tuple[Step, ...] = ()
    platform: tuple[str, str, str] = ("linux", "amd64", "")  # operating system, architecture, variant
    arguments: StageArguments | None = None


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
        steps: Steps,
        epoch: int | None,
        classic: bool,
        tell: Tell,
        plan: "Callable[[Walker, ins.Run | ins.Copy | ins.Add], Awaitable[Plan]]",
    ) -> None:
        """``epoch`` is SOURCE_DATE_EPOCH, in nanoseconds."""
        self.stage = stage
        self.outcome = outcome
        self.arguments = arguments
        self.step = first_step
        self._escape = escape
        self._workspace = workspace
        self._steps = steps
        self._epoch = epoch
        self._classic = classic
        self._tell = tell
        self._plan = plan
        self._command_set = False
        self._begun = 0.0

    @property
    def config(self) -> ContainerConfig:
        return self.outcome.config

    @property
    def results(self) -> list[Result]:
        return self._steps.results

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
        key = step_key(self.outcome.key, inputs)
        tree = self.outcome.tree
        found = await self._steps.find(key, tree)
        created = found.created if found else self._steps.now()
        self._add(Step(description, created))
        self._steps.remember(key, tree, tree, description, created, is_new=found is None)
        return found is not None

    async def _work_in(self, instruction: ins.Workdir, config: ContainerConfig) -> bool:
        path = join_directory(self.config.working_dir, instruction.path)
        user = "" if self._classic else config.user
        self.outcome = replace(self.outcome, config=config)
        description = history.workdir(path)

        async def work(tree: Tree) -> ActiveSnapshot | None:
            if self._workspace.is_directory(tree, path):
                return None
            snapshot = self._workspace.begin(tree)
            await self._workspace.make_directory(tree, snapshot, path, user)
            return snapshot

        inputs = step_inputs("workdir", path=path, user=user, epoch=self._epoch)
        return await self._change_files(Plan(inputs, description, work))

    async def _change_files(self, plan: Plan) -> bool:
        before = self.outcome.tree
        key = step_key(self.outcome.key, plan.inputs)
        done = await self._steps.carry_out(plan, before, key)
        self.outcome = replace(self.outcome, tree=done.tree, key=key)
        self._add(Step(plan.created_by, done.created, done.snapshot, done.chain_id))
        return done.cached

    def _add(self, step: Step) -> None:
        self.outcome = replace(self.outcome, steps=(*self.outcome.steps, step))
