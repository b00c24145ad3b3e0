"""Build arguments: which are known where, and what value each has.

ARGs before the first FROM are global: FROMs see them, together with the ones that tell the platforms. A stage sees an
argument from the ARG that declares it on; without a default of its own that has the global value. ``--build-arg`` goes
before every default, and a variable of the image's environment before an argument of the same name.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from wherry.dockerfile.errors import DockerfileError
from wherry.dockerfile.expansion import expand
from wherry.dockerfile.instructions import Arg

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
    def parse(cls, text: str, default: "Platform | None" = None) -> "Platform":
        """Reads ``linux/arm64/v8``, ``arm64`` or ``linux``; what it does not say is ``default``'s.

        Raises DockerfileError.
        """
        default = default or cls()
        parts = text.split("/")
        if not all(part and part.isascii() and part.replace("_", "").replace("-", "").isalnum() for part in parts):
            raise DockerfileError(f'invalid platform "{text}": expected one like linux/amd64 or linux/arm/v7')
        if len(parts) > 3:
            raise DockerfileError(f'invalid platform "{text}": expected at most an OS, an architecture and a variant')
        words = [part.lower() for part in parts]
        if len(words) == 1:
            words = [words[0], default.architecture] if words[0] in _SYSTEMS else [default.os, words[0]]
        return cls(*_normal(*words))

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


_SYSTEMS = frozenset({"linux", "windows", "darwin", "freebsd"})
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
}


def _normal(os: str, architecture: str, variant: str = "") -> tuple[str, str, str]:
    """One name for each architecture; the variants that every machine of a kind has go without saying."""
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = variant or implied
    if architecture == "arm":
        variant = variant if variant.startswith("v") or not variant else f"v{variant}"
        return os, architecture, variant or "v7"
    if (architecture, variant) in (("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")):
        variant = ""
    return os, architecture, variant


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
        """Those given: in capitals and in small letters, as some programs look for one and some for the other."""
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
