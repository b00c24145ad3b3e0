"""The graph of stages: what each is based on and copies from, and which of them a target needs.

A stage's name counts from its FROM on: a later stage of the same name hides an earlier one, and names are the same in
capitals and in small letters. What is no stage is an image. ::

    graph = build_graph(parse(text), target="app", given={"VERSION": "1.2"})
    for stage in graph.needed():   # those that others rest on first
        ...
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from wherry.common import platforms
from wherry.common.errors import InvalidParameter
from wherry.dockerfile.expansion import expand
from wherry.dockerfile.instructions import Arg, Copy, From, Instruction, OnBuild, Run
from wherry.dockerfile.lexer import DockerfileError, DockerfileSyntaxError, Position, suggestion
from wherry.dockerfile.parser import Dockerfile, parse_trigger

# Build arguments: which are known where, and what value each has.
#
# ARGs before the first FROM are global: FROMs see them, together with the ones that tell the platforms. A stage sees an
# argument from the ARG that declares it on; without a default of its own that has the global value. ``--build-arg``
# goes before every default, and a variable of the image's environment before an argument of the same name.

# Known in every stage without an ARG, when given with --build-arg. They change neither the cache nor the history.
PREDEFINED = frozenset(
    name
    for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (proxy, proxy.lower())
)

# The moment that no time in an image is later than, in seconds of Unix time.
EPOCH = "SOURCE_DATE_EPOCH"


class Platform(Struct, frozen=True):
    """An operating system and an architecture, in Go's names."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""
    os_version: str = ""

    @classmethod
    def parse(cls, text: str, own: str = "") -> "Platform":
        """Reads ``linux/arm64/v8``, ``arm64`` or ``linux``; a lone system is of the architecture ``own`` or this one's.

        Raises DockerfileError.
        """
        try:
            system, architecture, variant = platforms.parse(text, own)
        except InvalidParameter as error:
            raise DockerfileError(f"failed to parse platform {text}: {error}") from None
        return cls(system, *platforms.normalize(architecture, variant))

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def platform_arguments(target: Platform, build: Platform, stage: str) -> dict[str, str]:
    """TARGETPLATFORM, BUILDPLATFORM and their parts; TARGETSTAGE is the name of the stage that is built."""
    values: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        values |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}OSVERSION": platform.os_version,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    return {**values, "TARGETSTAGE": stage or "default"}


def global_arguments(
    instructions: Iterable[Arg], given: Mapping[str, str], platforms: Mapping[str, str], *, escape: str = "\\"
) -> dict[str, str]:
    """The values that FROMs see: the platforms' (``given`` goes before them) and those of the ARGs, in order.

    An ARG's default sees the ones before it. Raises DockerfileError with the ARG's place.
    """
    values = {name: given.get(name, value) for name, value in platforms.items()}
    for arg in instructions:
        for declaration in arg.declarations:
            name = _expand(arg, declaration.name, values, escape)
            if name in given:
                values[name] = given[name]
            elif declaration.default is not None:
                values[name] = _expand(arg, declaration.default, values, escape)
    return values


class StageArguments(Struct, frozen=True):
    """The arguments of one stage at one place in it.

    ``given`` is what --build-arg gave, ``shared`` the global arguments, ``declared`` what ARGs have declared so far:
    None for one that has no value. ``own`` are those of this stage, not of one that it is based on. Of an argument and
    an environment variable of the same name the later one counts: ``above`` are the arguments that do.
    """

    given: Mapping[str, str]
    shared: Mapping[str, str]
    escape: str = "\\"
    declared: Mapping[str, str | None] = {}
    own: tuple[str, ...] = ()
    above: frozenset[str] = frozenset()

    def declare(self, arg: Arg, environment: Iterable[str]) -> "StageArguments":
        """The arguments after an ARG, given the image's environment (``NAME=value``) at that place.

        None of an ARG's defaults sees the others. Raises DockerfileError with the ARG's place.
        """
        declared, above = dict(self.declared), set(self.above)
        variables = self.variables(environment)
        names = [_expand(arg, each.name, variables, self.escape) for each in arg.declarations]
        for name, declaration in zip(names, arg.declarations, strict=True):
            value = self.given.get(name)
            if value is None and declaration.default is not None:
                value = _expand(arg, declaration.default, variables, self.escape)
            elif value is None:
                value = self.shared.get(name)
            if value is None:
                declared.setdefault(name, None)
            else:
                declared[name] = value
                above.add(name)
        own = dict.fromkeys((*self.own, *names))
        return replace(self, declared=declared, own=tuple(own), above=frozenset(above))

    def after_env(self, names: Iterable[str]) -> "StageArguments":
        """The arguments after an ENV of these variables."""
        return replace(self, above=self.above.difference(names))

    def inherited(self) -> "StageArguments":
        """What a stage based on this one begins with: there the environment counts, as if it had come after them."""
        return replace(self, own=(), above=frozenset())

    def values(self) -> dict[str, str]:
        """The declared arguments that have a value: what the cache of a RUN depends on."""
        return {name: value for name, value in self.declared.items() if value is not None}

    def variables(self, environment: Iterable[str]) -> dict[str, str]:
        """What variables stand for at this place: predefined arguments, arguments and the environment."""
        values = self.values()
        fixed = dict(_split(variable) for variable in environment)
        return {**self._predefined(), **values, **fixed, **{name: values[name] for name in self.above}}

    def run_environment(self, environment: Iterable[str]) -> list[str]:
        """The environment of a RUN: the image's, then the arguments that it does not hold already."""
        kept = [variable for variable in environment if _split(variable)[0] not in self.above]
        names = {_split(variable)[0] for variable in kept}
        arguments = {**self._predefined(), **self.values()}
        return [*kept, *(f"{name}={value}" for name, value in sorted(arguments.items()) if name not in names)]

    def _predefined(self) -> dict[str, str]:
        """Proxies that were given, in capitals and in small letters: some programs look for one, some for the other."""
        given = {name: value for name, value in self.given.items() if name in PREDEFINED}
        return {other: value for name, value in given.items() for other in (name.upper(), name.lower())} | given


def unused_arguments(given: Iterable[str], declared: Iterable[str]) -> list[str]:
    """The build arguments that neither an ARG declares nor the builder itself heeds: people are warned of them."""
    left = set(given) - set(declared) - PREDEFINED
    return sorted(name for name in left if name != EPOCH and not name.startswith("BUILDKIT_"))


def _split(variable: str) -> tuple[str, str]:
    name, _, value = variable.partition("=")
    return name, value


def _expand(arg: Arg, text: str, variables: Mapping[str, str], escape: str) -> str:
    try:
        return expand(text, variables, escape=escape)
    except DockerfileError as error:
        raise error.at(arg.position) from None


SCRATCH = "scratch"


class Source(Struct, frozen=True):
    """Where files come from: a stage (its ``stage`` is its index) or an image (``stage`` is None).

    The image ``scratch`` is the empty file system.
    """

    stage: int | None
    image: str
    position: Position


class Stage(Struct, frozen=True):
    """``base`` is what it begins with; ``sources`` are the places its COPYs and RUNs take files from, by their name.

    ``name`` is "" when FROM gives none, ``platform`` None when it asks for none. ``instructions`` begin after the
    FROM, with the ``triggers`` (ONBUILD) of the base first, which are so many.
    """

    index: int
    name: str
    base: Source
    platform: Platform | None
    instructions: tuple[Instruction, ...]
    sources: Mapping[str, Source]
    position: Position
    triggers: int = 0

    @property
    def label(self) -> str:
        """The name for people: Docker calls a nameless one by its number."""
        return self.name or f"stage-{self.index}"

    def dependencies(self) -> list[tuple[int, Position]]:
        """The stages that this one needs itself, and where it says so."""
        found = (self.base, *self.sources.values())
        return [(source.stage, source.position) for source in found if source.stage is not None]


class Graph(Struct, frozen=True):
    """All stages in the file's order, and the one that is wanted.

    ``arguments`` is what every stage begins with. ``unused`` are the build arguments that no ARG declares.
    """

    stages: tuple[Stage, ...]
    target: Stage
    arguments: StageArguments
    escape: str
    unused: tuple[str, ...]

    def needed(self) -> list[Stage]:
        """The stages that the target rests on, and the target last; each stands after all that it needs."""
        wanted: set[int] = set()
        pending = [self.target.index]
        while pending:
            index = pending.pop()
            if index not in wanted:
                wanted.add(index)
                pending += [needs for needs, _ in self.stages[index].dependencies()]
        # A stage can only need earlier ones, so the file's order is an order to build in.
        return [stage for stage in self.stages if stage.index in wanted]

    def images(self) -> list[Source]:
        """The images that the needed stages begin with or copy from, each once, scratch left out."""
        found: dict[str, Source] = {}
        for stage in self.needed():
            for source in (stage.base, *stage.sources.values()):
                if source.stage is None and source.image != SCRATCH:
                    found.setdefault(source.image, source)
        return list(found.values())

    def trigger(self, index: int, expressions: Iterable[str]) -> "Graph":
        """The graph with the ONBUILD expressions of an image put before the instructions of a stage based on it.

        They may copy from stages, so the stages that are needed can become more. Raises DockerfileError.
        """
        stage = self.stages[index]
        triggers = [parse_trigger(expression, stage.position) for expression in expressions]
        if not triggers:
            return self
        names = _Names([each.name for each in self.stages])
        for earlier in self.stages[:index]:
            names.add(earlier.name, earlier.index)
        changed = replace(
            stage,
            instructions=(*triggers, *stage.instructions),
            sources={**_sources(triggers, names, stage.label), **stage.sources},
            triggers=stage.triggers + len(triggers),
        )
        stages = (*self.stages[:index], changed, *self.stages[index + 1 :])
        unused = tuple(unused_arguments(self.unused, _declared(triggers)))
        return replace(self, stages=stages, target=stages[self.target.index], unused=unused)

    def near(self, name: str) -> str:
        """The stage that somebody may have meant by the name of an image that is not to be had, for an error's end."""
        return suggestion(name, [stage.name for stage in self.stages if stage.name])


def build_graph(
    dockerfile: Dockerfile,
    *,
    target: str = "",
    given: Mapping[str, str] | None = None,
    platform: Platform | None = None,
    build_platform: Platform | None = None,
) -> Graph:
    """The graph of a Dockerfile's stages.

    ``target`` is a stage's name or number ("" for the last), ``given`` the build arguments, ``platform`` what is built
    for (default: the build's own). Raises DockerfileError: for a stage that is not there, that copies from itself or
    from a later one, for a FROM that comes to nothing.
    """
    given = given or {}
    build_platform = build_platform or Platform()
    shared_args, sections = _sections(dockerfile)
    platforms = platform_arguments(platform or build_platform, build_platform, target or sections[-1][0].name)
    shared = global_arguments(shared_args, given, platforms, escape=dockerfile.escape)
    stages: list[Stage] = []
    names = _Names([head.name for head, _ in sections])
    for head, body in sections:
        stage = _stage(head, body, stages, names, shared, dockerfile.escape)
        stages.append(stage)
        names.add(stage.name, stage.index)
    arguments = StageArguments(given, shared, dockerfile.escape)
    everything = (shared_args, *(stage.instructions for stage in stages))
    declared = (name for instructions in everything for name in _declared(instructions))
    unused = tuple(unused_arguments(given, [*declared, *platforms]))
    return Graph(tuple(stages), _target(stages, target), arguments, dockerfile.escape, unused)


def _declared(instructions: Iterable[Instruction]) -> Iterator[str]:
    """The names of ARGs."""
    return (each.name for arg in instructions if isinstance(arg, Arg) for each in arg.declarations)


def _sections(dockerfile: Dockerfile) -> tuple[list[Arg], list[tuple[From, list[Instruction]]]]:
    """The ARGs before the first FROM, and each FROM with what follows it."""
    shared: list[Arg] = []
    sections: list[tuple[From, list[Instruction]]] = []
    for instruction in dockerfile.instructions:
        if isinstance(instruction, From):
            sections.append((instruction, []))
        elif sections:
            sections[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            shared.append(instruction)
        else:
            reason = f"no build stage in current context: expected FROM before {instruction.keyword}"
            raise DockerfileSyntaxError(reason, instruction.position)
    if not sections:
        raise DockerfileError(f"{dockerfile.file}: dockerfile contains no stages to build: expected FROM")
    return shared, sections


class _Names:
    """The stages before the one that is looked at, by name and by number."""

    def __init__(self, all_names: Iterable[str] = ()) -> None:
        self._known: dict[str, int] = {}
        self._later = {name for name in all_names if name}
        self._count = 0

    def add(self, name: str, index: int) -> None:
        self._count = index + 1
        if name:
            self._known[name.lower()] = index

    def base(self, image: str) -> int | None:
        """The stage that a FROM names. A number is an image's name there."""
        return self._known.get(image.lower())

    def source(self, name: str, label: str) -> int | None:
        """The stage that a ``--from`` or a mount's ``from=`` names, None for an image. Raises DockerfileError."""
        if name.lower() in self._known:
            return self._known[name.lower()]
        if name.isascii() and name.isdecimal():
            index = int(name[:9])
            if index >= self._count:
                state = "refers to current build stage" if index == self._count else "index out of bounds"
                count = f"there are {self._count} before it" if self._count != 1 else "there is one before it, 0"
                raise DockerfileError(f"invalid from flag value {name}: {state}: {count}")
            return index
        if name.lower() == label:
            raise DockerfileError(f"circular dependency detected on stage: {label} takes files from itself")
        if name.lower() in self._later:
            reason = f'cannot copy from stage "{name}", it needs to be defined before current stage "{label}"'
            raise DockerfileError(reason)
        return None


def _stage(
    head: From, body: list[Instruction], stages: list[Stage], names: _Names, shared: Mapping[str, str], escape: str
) -> Stage:
    try:
        image = expand(head.image, shared, escape=escape)
        if not image:
            raise DockerfileError(f"base name ({head.image}) should not be blank")
        platform = _platform(head, shared, escape)
    except DockerfileError as error:
        raise error.at(head.position) from None
    base = Source(names.base(image), image, head.position)
    triggers = _triggers(stages[base.stage], head.position) if base.stage is not None else []
    body = [*triggers, *body]
    label = head.name or f"stage-{len(stages)}"
    sources = _sources(body, names, label)
    return Stage(len(stages), head.name, base, platform, tuple(body), sources, head.position, len(triggers))


def _platform(head: From, shared: Mapping[str, str], escape: str) -> Platform | None:
    if not head.platform:
        return None
    text = expand(head.platform, shared, escape=escape)
    if not text:
        raise DockerfileError(f"empty platform value from expression {head.platform}")
    return Platform.parse(text, Platform.parse(shared["BUILDPLATFORM"]).architecture)


def _triggers(base: Stage, position: Position) -> list[Instruction]:
    """What a stage's ONBUILDs say to a stage based on it, in order."""
    found = (instruction for instruction in base.instructions if isinstance(instruction, OnBuild))
    return [parse_trigger(instruction.expression, position) for instruction in found]


def _sources(body: Iterable[Instruction], names: _Names, label: str) -> dict[str, Source]:
    """The stages and images that instructions take files from."""
    sources: dict[str, Source] = {}
    for instruction in body:
        for name in _source_names(instruction):
            try:
                if "$" in name:
                    raise DockerfileError(
                        "variable expansion is not supported for --from, define a new stage with FROM using ARG from "
                        "global scope as a workaround"
                    )
                stage = names.source(name, label)
            except DockerfileError as error:
                raise error.at(instruction.position) from None
            sources.setdefault(name, Source(stage, name, instruction.position))
    return sources


def _source_names(instruction: Instruction) -> Iterator[str]:
    if isinstance(instruction, Copy) and instruction.source_stage:
        yield instruction.source_stage
    elif isinstance(instruction, Run):
        yield from (mount.source_stage for mount in instruction.mounts if mount.source_stage)


def _target(stages: list[Stage], target: str) -> Stage:
    if not target:
        return stages[-1]
    named = [stage for stage in stages if stage.name and stage.name == target.lower()]
    if named:
        return named[-1]
    if target.isascii() and target.isdecimal() and int(target[:9]) < len(stages):
        return stages[int(target[:9])]
    near = suggestion(target, [stage.name for stage in stages if stage.name])
    known = ", ".join(stage.label for stage in stages)
    raise DockerfileError(f'target stage "{target}" could not be found{near or f": the stages are {known}"}')
