"""RUN: a command in a container of its own, whose changes become a layer."""

import os
from collections.abc import Awaitable, Callable

from wherry.dockerfile import instructions as ins
from wherry.dockerfile.configure import command_words
from wherry.dockerfile.mounts import Mount as WantedMount
from wherry.dockerfile.scripts import Script, run_command
from wherry.engine.build import created_by, progress
from wherry.engine.build.container import HOSTNAME, Command, Containers
from wherry.engine.build.errors import StepFailed
from wherry.engine.build.keys import step_inputs
from wherry.engine.build.progress import Progress
from wherry.engine.build.request import HOST_NETWORK, INSECURE, BuildRequest
from wherry.engine.build.run_mounts import USUAL_PLACES, RunMounts, target_of
from wherry.engine.build.sources import Origin, Sources
from wherry.engine.build.stage import Plan, Walker
from wherry.linux.mounts import Mount
from wherry.model.errors import Forbidden
from wherry.storage.drafts import Draft, Tree, Workspace


class Runs:
    """Plans the RUNs of a build."""

    def __init__(
        self,
        request: BuildRequest,
        workspace: Workspace,
        containers: Containers,
        mounts: RunMounts,
        sources: Sources,
        heard: Progress,
        epoch: int | None,
    ) -> None:
        self._request = request
        self._workspace = workspace
        self._containers = containers
        self._mounts = mounts
        self._sources = sources
        self._heard = heard
        self._epoch = epoch

    async def plan(self, walker: Walker, run: ins.Run, origin_of: Callable[[str], Awaitable[Origin]]) -> Plan:
        """Raises EngineError for what may not or cannot be."""
        self._check_entitlements(run)
        line, script = run_command(run)
        words = tuple(command_words(line, walker.config))
        network = run.network if run.network != "default" else self._request.network
        command = Command(
            words,
            tuple(walker.arguments.run_environment(walker.config.env or ())),
            walker.working_directory,
            walker.config.user,
            walker.outcome.platform[1],
            "" if network == "default" else network,
            run.security == "insecure",
            self._request.arguments.get("BUILDKIT_SANDBOX_HOSTNAME") or HOSTNAME,
            self._request.extra_hosts,
            self._request.security,
            self._request.limits,
        )
        inputs = step_inputs(
            "run",
            words=words,
            environment=walker.config.env or (),
            arguments=walker.arguments.values(),
            above=sorted(walker.arguments.above),
            directory=command.directory,
            user=command.user,
            architecture=command.architecture,
            network=run.network,
            security=run.security,
            hosts=command.extra_hosts,
            hostname=command.hostname,
            script=script,
            mounts=[await self._mount_inputs(walker, mount, origin_of) for mount in run.mounts],
            epoch=self._epoch,
        )

        async def work(tree: Tree) -> Draft:
            return await self._run(walker.step, run, command, script, tree)

        return Plan(inputs, created_by.run(words, _shown(walker)), work)

    def _check_entitlements(self, run: ins.Run) -> None:
        allowed = self._request.given.allow
        if run.security == "insecure" and INSECURE not in allowed:
            raise Forbidden(f"RUN --security=insecure needs to be allowed: build with --allow {INSECURE}")
        if run.network == "host" and self._request.network != "host" and HOST_NETWORK not in allowed:
            raise Forbidden(f"RUN --network=host needs to be allowed: build with --allow {HOST_NETWORK}")

    async def _mount_inputs(
        self, walker: Walker, mount: WantedMount, origin_of: Callable[[str], Awaitable[Origin]]
    ) -> list[str]:
        """What of a mount the result depends on. What is in a cache does not count, nor what a secret is."""
        said = [mount.type, target_of(mount, walker.working_directory), mount.environment or "", mount.cache_id]
        if mount.type == "bind":
            origin = await origin_of(mount.source_stage)
            said.append(await self._sources.digest(origin, [mount.source or "/"]))
        return said

    async def _run(self, step: int, run: ins.Run, command: Command, script: Script | None, tree: Tree) -> Draft:
        draft = self._workspace.begin(tree)
        container_id = self._containers.new_id()
        directory = self._containers.make_directory(container_id)
        async with self._mounts.prepare(run.mounts, command.directory, directory) as mounted:
            if script is not None:
                mounted.mounts.append(_write_script(script, directory))
            if mounted.environment:
                command = command.with_environment(mounted.environment)
            root = self._workspace.mounts(tree, draft, (*USUAL_PLACES, *mounted.places))
            self._heard.tell(progress.Running(step, container_id))
            code = await self._containers.run(
                container_id,
                command,
                root,
                mounted.mounts,
                lambda stream, text: self._heard.tell_when_heard(progress.Printed(step, stream, text)),
            )
        if code:
            shown = " ".join(command.words)
            raise StepFailed(f"The command '{shown}' returned a non-zero code: {code}", run.position, code)
        return draft


def _shown(walker: Walker) -> dict[str, str]:
    """The stage's own arguments, with the values that the command sees."""
    values = walker.variables()
    return {name: values.get(name, "") for name in walker.arguments.own}


def _write_script(script: Script, directory: str) -> Mount:
    path = f"{directory}/script"
    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
        file.write(script.content)
    os.chmod(path, 0o755)
    return Mount("bind", path, script.path, ("bind", "ro", "rprivate"), create="file")
