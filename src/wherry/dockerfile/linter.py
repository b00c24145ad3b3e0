"""Checks of a Dockerfile that is valid and may still not be what its author means.

The rules are those that Docker has published (docs.docker.com/reference/build-checks), under the same names, which
``# check=skip=…`` at the head of a file leaves out; ``# check=error=true`` makes a failure of what they find.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from wherry.common.ignore import PatternMatcher
from wherry.dockerfile import instructions as ins
from wherry.dockerfile.expansion import expand
from wherry.dockerfile.lexer import DockerfileError, Position, suggestion
from wherry.dockerfile.parser import Dockerfile
from wherry.dockerfile.stages import PREDEFINED, SCRATCH, Platform, platform_arguments

_URL = "https://docs.docker.com/go/dockerfile/rule/{}/"
_VARIABLE = re.compile(r"\\.|'[^']*'|\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(:?[-+?])?)")
_RESERVED = ("context", "scratch")
_SECRET = re.compile(r"(^|_)(apikey|auth|credentials?|key|password|pword|passwd|secret|token)(_|$)", re.IGNORECASE)
_PUBLIC = re.compile(r"(^|_)(public|file|version|path)(_|$)|_id$", re.IGNORECASE)
_EXPOSED_ADDRESS = re.compile(r"[^$\[\]]*:.*")

# Names, and what each is about.
RULES = {
    "StageNameCasing": "Names of stages should be in small letters",
    "FromAsCasing": "AS should be written like the FROM before it",
    "NoEmptyContinuation": "Empty lines in a continued instruction will be errors one day",
    "ConsistentInstructionCasing": "Instructions should all be in capitals, or all in small letters",
    "DuplicateStageName": "No two stages should have the same name",
    "ReservedStageName": "A stage should not have a name that means something else already",
    "JSONArgsRecommended": "Commands in JSON form get signals themselves, which a shell before them keeps away",
    "MaintainerDeprecated": "MAINTAINER is deprecated: a label says who the author is",
    "UndefinedArgInFrom": "FROM should only use arguments that are declared before it",
    "WorkdirRelativePath": "A relative WORKDIR without an absolute one before it depends on the base image",
    "UndefinedVar": "Variables should be defined before they are used",
    "MultipleInstructionsDisallowed": "Of several such instructions in a stage only the last one counts",
    "LegacyKeyValueFormat": "Names and values should have an equals sign between them",
    "RedundantTargetPlatform": "The target's platform is what FROM takes anyway",
    "SecretsUsedInArgOrEnv": "What is secret should not be in ARG or ENV, which stay in the image",
    "InvalidDefaultArgInFrom": "Without build arguments FROM should come to a valid name, too",
    "FromPlatformFlagConstDisallowed": "FROM --platform should not be a constant",
    "CopyIgnoredFile": "What .dockerignore leaves out cannot be copied",
    "InvalidDefinitionDescription": "The comment above a stage or an argument should begin with its name",
    "ExposeProtoCasing": "Protocols in EXPOSE should be in small letters",
    "ExposeInvalidFormat": "EXPOSE takes ports, without addresses and without ports of the host",
}
EXPERIMENTAL = frozenset(("InvalidDefinitionDescription",))

EnvironmentOf = Callable[[str], Iterable[str] | None]
"""The variables' names that an image brings; None when that is not known."""


class Finding(Struct, frozen=True):
    """``detail`` is what a rule says here, of the lines of ``position``."""

    rule: str
    detail: str
    position: Position

    @property
    def description(self) -> str:
        return RULES[self.rule]

    @property
    def url(self) -> str:
        return _URL.format(re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.rule).lower())

    @property
    def short(self) -> str:
        return f"{self.rule}: {self.detail}{f' (line {self.position.line})' if self.position.line else ''}"


class Checks(Struct, frozen=True):
    """What is checked: all rules but those to ``skip``; ``error``: what is found ends a build."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    @classmethod
    def parse(cls, text: str) -> "Checks":
        """Reads "skip=A,B;error=true". Raises DockerfileError."""
        found: dict[str, str] = {}
        for part in filter(None, (each.strip() for each in text.split(";"))):
            key, equals, value = part.partition("=")
            if not equals or key not in ("skip", "error", "experimental"):
                raise DockerfileError(f'invalid check option "{part}": expected skip=, error= or experimental=')
            found[key] = value.strip()
        if found.get("error", "false") not in ("true", "false", "1", "0"):
            raise DockerfileError(f'invalid check option "error={found["error"]}": expected true or false')
        names = {key: frozenset(each.strip() for each in found.get(key, "").split(",")) for key in found}
        return cls(
            names.get("skip", frozenset()),
            names.get("experimental", frozenset()),
            found.get("error", "false") in ("true", "1"),
        )

    def applies(self, rule: str) -> bool:
        if rule in self.skip or ("all" in self.skip and rule not in EXPERIMENTAL):
            return False
        return rule not in EXPERIMENTAL or bool({rule, "all"} & self.experimental)


def checks_of(file: Dockerfile, given: str = "") -> Checks:
    """``given`` goes before what the file says. Raises DockerfileError."""
    return Checks.parse(given or dict(file.directives).get("check", ""))


def lint(
    file: Dockerfile,
    text: str,
    checks: Checks,
    *,
    given: Mapping[str, str] | None = None,
    ignored: PatternMatcher | None = None,
    environment_of: EnvironmentOf = lambda image: None,
) -> list[Finding]:
    """What the rules find, by line. ``given`` are the build arguments, ``ignored`` the context's .dockerignore."""
    linter = _Linter(file, text.splitlines(), given or {}, ignored, environment_of)
    found = [each for each in linter.run() if checks.applies(each.rule)]
    return sorted(found, key=lambda each: (each.position.line, each.rule))


class _Linter:
    def __init__(
        self,
        file: Dockerfile,
        lines: Sequence[str],
        given: Mapping[str, str],
        ignored: PatternMatcher | None,
        environment_of: EnvironmentOf,
    ) -> None:
        self._file = file
        self._lines = lines
        self._given = given
        self._ignored = ignored
        self._environment_of = environment_of
        self._platform = platform_arguments(Platform(), Platform(), "")
        self._shared: dict[str, str] = dict(self._platform)
        self._stages: dict[str, tuple[set[str] | None, bool]] = {}  # variables, and whether a WORKDIR was absolute
        self._defined: set[str] | None = set()
        self._arguments: set[str] = set()
        self._based_on_absolute = False
        self._once: dict[str, ins.Instruction] = {}

    def run(self) -> Iterator[Finding]:
        yield from self._of_lines()
        stage = ""
        for number, instruction in enumerate(self._file.instructions):
            yield from self._of_description(instruction)
            if isinstance(instruction, ins.From):
                self._keep(stage)
                yield from self._of_from(instruction)
                stage = instruction.name or f"stage-{number}"
            elif not stage:
                yield from self._of_shared(instruction)
            else:
                yield from self._of_instruction(instruction)
        self._keep(stage)

    def _keep(self, stage: str) -> None:
        if stage:
            self._stages[stage] = self._defined, self._based_on_absolute

    # --- how it is written

    def _of_lines(self) -> Iterator[Finding]:
        words = [(each, (each.position.text.split(maxsplit=1) or [""])[0]) for each in self._file.instructions]
        cases = Counter("upper" if word.isupper() else "lower" for _, word in words if word.isupper() or word.islower())
        wanted = "lowercase" if cases["lower"] > cases["upper"] else "uppercase"
        for instruction, word in words:
            if word != (word.lower() if wanted == "lowercase" else word.upper()):
                detail = f"Instruction '{word}' is not written like most of the others ({wanted})"
                yield Finding("ConsistentInstructionCasing", detail, instruction.position)
        for warning in self._file.warnings:
            line = int(warning.split(":")[1])
            holder = next((each for each in self._file.instructions if each.position.end >= line), None)
            yield Finding("NoEmptyContinuation", "Empty line in a continued instruction",
                          holder.position if holder else Position(self._file.file, line, line))  # fmt: skip

    def _of_description(self, instruction: ins.Instruction) -> Iterator[Finding]:
        line = instruction.position.line - 2
        comment = self._lines[line].strip() if 0 <= line < len(self._lines) else ""
        if isinstance(instruction, ins.From):
            kind, names = "FROM", [instruction.name]
        elif isinstance(instruction, ins.Arg):
            kind, names = "ARG", [each.name for each in instruction.declarations]
        else:
            return
        is_first = line >= 0 and all(each.strip().startswith("#") for each in self._lines[: line + 1])
        if not comment.startswith("# ") or not all(names) or (is_first and "=" in comment):
            return
        if comment.removeprefix("# ").split()[:1] not in ([name] for name in names):
            detail = f"The comment above {kind} should be: `# {names[0]} <description>`"
            yield Finding("InvalidDefinitionDescription", detail, instruction.position)

    # --- before and at a FROM

    def _of_shared(self, instruction: ins.Instruction) -> Iterator[Finding]:
        if isinstance(instruction, ins.Arg):
            yield from self._of_secret("ARG", [each.name for each in instruction.declarations], instruction.position)
            for each in instruction.declarations:
                value = self._given.get(each.name, each.default)
                self._shared[each.name] = self._expanded(value or "", self._shared)

    def _of_from(self, instruction: ins.From) -> Iterator[Finding]:
        position, words = instruction.position, instruction.position.code.split()
        written = words[-1] if instruction.name else ""
        if written != written.lower():
            yield Finding("StageNameCasing", f"The stage's name '{written}' should be in small letters", position)
        if instruction.name and words[-2].isupper() != words[0].isupper():
            detail = f"'{words[-2]}' is not written like '{words[0]}'"
            yield Finding("FromAsCasing", detail, position)
        if instruction.name in self._stages:
            yield Finding("DuplicateStageName", f'There is a stage "{instruction.name}" already', position)
        if instruction.name in _RESERVED:
            yield Finding("ReservedStageName", f'The name "{instruction.name}" is reserved', position)
        for name in self._undefined(instruction.image + instruction.platform, self._shared):
            near = suggestion(name, [*self._shared])
            yield Finding(
                "UndefinedArgInFrom", f"FROM uses the argument '{name}', which is not declared{near}", position
            )
        if instruction.platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            detail = f"--platform={instruction.platform} is what FROM takes anyway"
            yield Finding("RedundantTargetPlatform", detail, position)
        elif instruction.platform and "$" not in instruction.platform:
            yield from self._of_constant_platform(instruction)
        yield from self._of_defaults(instruction)
        self._begin(self._expanded(instruction.image, self._shared))

    def _of_constant_platform(self, instruction: ins.From) -> Iterator[Finding]:
        # A stage's name that says the platform means it.
        architecture = instruction.platform.split("/")[1:2]
        if not architecture or architecture[0] not in instruction.name:
            detail = f'--platform has the constant value "{instruction.platform}"'
            yield Finding("FromPlatformFlagConstDisallowed", detail, instruction.position)

    def _of_defaults(self, instruction: ins.From) -> Iterator[Finding]:
        defaults = dict(self._platform)
        for each in self._file.instructions:
            if isinstance(each, ins.From):
                break
            for declared in each.declarations if isinstance(each, ins.Arg) else ():
                defaults[declared.name] = self._expanded(declared.default or "", defaults)
        image = self._expanded(instruction.image, defaults)
        if "$" in instruction.image and (not image or image[-1] in ":@/" or image[0] in ":@/" or "//" in image):
            detail = f"Without build arguments {instruction.image} is no valid name of an image"
            yield Finding("InvalidDefaultArgInFrom", detail, instruction.position)

    def _begin(self, image: str) -> None:
        """A stage begins."""
        self._once = {}
        self._arguments = set()
        if image.lower() in self._stages:
            before, self._based_on_absolute = self._stages[image.lower()]
            self._defined = None if before is None else set(before)
            return
        self._based_on_absolute = image == SCRATCH
        found = () if image == SCRATCH else self._environment_of(image)
        self._defined = None if found is None else {*found, "PATH"}

    # --- in a stage

    def _of_instruction(self, instruction: ins.Instruction) -> Iterator[Finding]:
        position = instruction.position
        yield from self._of_variables(instruction)
        match instruction:
            case ins.Maintainer():
                yield Finding("MaintainerDeprecated", "MAINTAINER is deprecated: use LABEL", position)
            case ins.Cmd() | ins.Entrypoint():
                if instruction.command.shell and instruction.command.arguments and "SHELL" not in self._once:
                    detail = f"{instruction.keyword} in JSON form would get signals itself"
                    yield Finding("JSONArgsRecommended", detail, position)
            case ins.Workdir():
                absolute = posixpath.isabs(instruction.path) or instruction.path.startswith("$")
                if not absolute and not self._based_on_absolute:
                    detail = f'The relative path "{instruction.path}" depends on the base image'
                    yield Finding("WorkdirRelativePath", detail, position)
                self._based_on_absolute = self._based_on_absolute or absolute
            case ins.Env() | ins.Label():
                for pair in instruction.pairs:
                    if pair.legacy:
                        word = instruction.keyword
                        detail = f'"{word} key=value" should be used in place of "{word} key value"'
                        yield Finding("LegacyKeyValueFormat", detail, position)
                if isinstance(instruction, ins.Env):
                    yield from self._of_secret("ENV", [pair.key for pair in instruction.pairs], position)
            case ins.Arg():
                yield from self._of_secret("ARG", [each.name for each in instruction.declarations], position)
            case ins.Expose():
                yield from self._of_ports(instruction)
            case ins.Copy() | ins.Add():
                yield from self._of_ignored(instruction)
        yield from self._of_repetition(instruction)

    def _of_repetition(self, instruction: ins.Instruction) -> Iterator[Finding]:
        earlier = self._once.get(instruction.keyword)
        if isinstance(instruction, ins.Cmd | ins.Entrypoint | ins.HealthCheck) and earlier is not None:
            detail = f"Of several {instruction.keyword} in a stage only the last one counts"
            yield Finding("MultipleInstructionsDisallowed", detail, earlier.position)
        self._once[instruction.keyword] = instruction

    @staticmethod
    def _of_secret(keyword: str, names: Sequence[str], position: Position) -> Iterator[Finding]:
        for name in names:
            if _SECRET.search(name) and not _PUBLIC.search(name):
                yield Finding("SecretsUsedInArgOrEnv", f'{keyword} "{name}" seems to be for what is secret', position)

    @staticmethod
    def _of_ports(instruction: ins.Expose) -> Iterator[Finding]:
        for port in instruction.ports:
            protocol = port.partition("/")[2]
            if protocol != protocol.lower() and "$" not in protocol:
                detail = f"The protocol of '{port}' should be in small letters"
                yield Finding("ExposeProtoCasing", detail, instruction.position)
            if _EXPOSED_ADDRESS.fullmatch(port):
                detail = f"'{port}' has an address, or a port of the host"
                yield Finding("ExposeInvalidFormat", detail, instruction.position)

    def _of_ignored(self, instruction: ins.Copy | ins.Add) -> Iterator[Finding]:
        if self._ignored is None or (isinstance(instruction, ins.Copy) and instruction.source_stage):
            return
        for source in instruction.sources:
            if isinstance(source, str) and not any(mark in source for mark in ("$", "://", "*", "git@")):
                path = posixpath.normpath(source).lstrip("/")
                if path != "." and self._ignored.matches(path):
                    detail = f'{instruction.keyword} of "{source}", which .dockerignore leaves out'
                    yield Finding("CopyIgnoredFile", detail, instruction.position)

    # --- variables

    def _of_variables(self, instruction: ins.Instruction) -> Iterator[Finding]:
        known = self._defined
        if known is not None:
            for name in dict.fromkeys(self._used(instruction)):
                near = suggestion(name, [*known, *self._arguments]).replace("mean ", "mean $")
                yield Finding("UndefinedVar", f"The variable '${name}' is not defined{near}", instruction.position)
        if isinstance(instruction, ins.Arg):
            self._arguments |= {each.name for each in instruction.declarations}
        if isinstance(instruction, ins.Env) and known is not None:
            known |= {pair.key for pair in instruction.pairs}

    def _used(self, instruction: ins.Instruction) -> Iterator[str]:
        """Variables in what the builder expands that nothing has defined."""
        if isinstance(instruction, ins.Run | ins.Cmd | ins.Entrypoint | ins.Shell | ins.HealthCheck | ins.OnBuild):
            return
        known = {*(self._defined or ()), *self._arguments, *PREDEFINED, *self._platform}
        text = instruction.position.code or instruction.position.text
        declared = {each.name for each in instruction.declarations} if isinstance(instruction, ins.Arg) else set()
        yield from self._undefined(text.partition(" ")[2], dict.fromkeys(known | declared, ""))

    @staticmethod
    def _undefined(text: str, known: Mapping[str, str]) -> Iterator[str]:
        for match in _VARIABLE.finditer(text):
            name = match[1] or match[2]
            if name and not match[3] and name not in known:
                yield name

    def _expanded(self, text: str, variables: Mapping[str, str]) -> str:
        try:
            return expand(text, variables, escape=self._file.escape)
        except DockerfileError:
            return ""
