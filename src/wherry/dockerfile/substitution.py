"""Which parts of an instruction have variables, and an instruction with its variables replaced.

ADD, COPY, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR, the values of RUN's mounts, and here-documents that
are files. The commands of RUN, CMD, ENTRYPOINT and HEALTHCHECK are left to their shell, ONBUILD to the build that it
comes up in. FROM and ARG have rules of their own, see arguments.py.
"""

from collections.abc import Mapping
from typing import TypeVar, cast

from msgspec.structs import replace

from wherry.dockerfile.errors import DockerfileError
from wherry.dockerfile.expansion import expand, expand_words
from wherry.dockerfile.heredocs import HereDocument
from wherry.dockerfile.instructions import (
    Add,
    Copy,
    Env,
    Expose,
    Instruction,
    Label,
    Pair,
    Run,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from wherry.dockerfile.mounts import parse_mount

_I = TypeVar("_I", bound=Instruction)
_F = TypeVar("_F", Add, Copy)


def expand_instruction(instruction: _I, variables: Mapping[str, str], *, escape: str = "\\") -> _I:
    """The instruction as it is carried out, given the environment and the build arguments before it.

    All of an instruction sees the variables as they were before it: ``ENV a=1 b=$a`` takes a's old value for b.
    Raises DockerfileError with the instruction's place.
    """
    try:
        return cast("_I", _Substitution(variables, escape).instruction(instruction))
    except DockerfileError as error:
        raise error.at(instruction.position) from None


class _Substitution:
    def __init__(self, variables: Mapping[str, str], escape: str) -> None:
        self._variables = variables
        self._escape = escape

    def text(self, word: str) -> str:
        return expand(word, self._variables, escape=self._escape)

    def texts(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.text(word) for word in words)

    def instruction(self, instruction: Instruction) -> Instruction:
        match instruction:
            case Env() | Label():
                return replace(instruction, pairs=self._pairs(instruction.pairs))
            case Expose():
                words = (expand_words(port, self._variables, escape=self._escape) for port in instruction.ports)
                return replace(instruction, ports=tuple(port for found in words for port in found))
            case Run():
                return replace(
                    instruction, mounts=tuple(parse_mount(mount.text, self.text) for mount in instruction.mounts)
                )
            case Add():
                return replace(self._files(instruction), checksum=self.text(instruction.checksum))
            case Copy():
                return self._files(instruction)
            case StopSignal():
                return replace(instruction, signal=self.text(instruction.signal))
            case User():
                return replace(instruction, user=self.text(instruction.user))
            case Volume():
                return replace(instruction, paths=self.texts(instruction.paths))
            case Workdir():
                return replace(instruction, path=self.text(instruction.path))
        return instruction

    def _files(self, instruction: _F) -> _F:
        return replace(
            instruction,
            sources=tuple(
                self.text(source) if isinstance(source, str) else self._heredoc(source)
                for source in instruction.sources
            ),
            destination=self.text(instruction.destination),
            chown=self.text(instruction.chown),
            chmod=self.text(instruction.chmod),
        )

    def _pairs(self, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
        return tuple(replace(pair, key=self.text(pair.key), value=self.text(pair.value)) for pair in pairs)

    def _heredoc(self, heredoc: HereDocument) -> HereDocument:
        """Expanded text has no tabs left to strip. Its escape is the backslash, whatever the file's directive says."""
        if not heredoc.expand:
            return heredoc
        return replace(heredoc, body=expand(heredoc.content, self._variables, quotes=False), strip_tabs=False)
