"""Instructions back to text, in one spelling: parsing the text gives equal instructions again.

What a text can say in several ways comes out in one: a line for each instruction, keywords in capitals, no comments.
Quotes and escapes inside of words are kept, since they count when the variables are replaced.
"""

import json
import re
from collections.abc import Iterable, Sequence

from wherry.dockerfile import instructions as ins
from wherry.dockerfile.flags import format_duration
from wherry.dockerfile.instructions import HereDocument
from wherry.dockerfile.lexer import SPACES
from wherry.dockerfile.parser import Dockerfile

_SPACE = re.compile(f"[{SPACES}]")
_QUOTED = re.compile(f"[{SPACES}'\"]")
_Flag = tuple[str, str | bool | None]


def print_dockerfile(dockerfile: Dockerfile) -> str:
    """The whole file: directives, then an instruction a line, with an empty line before each stage but the first."""
    lines = [f"# {name}={value}" for name, value in dockerfile.directives]
    for number, instruction in enumerate(dockerfile.instructions):
        if number and isinstance(instruction, ins.From):
            lines.append("")
        lines.append(print_instruction(instruction, escape=dockerfile.escape))
    return "\n".join(lines) + "\n"


def print_instruction(instruction: ins.Instruction, *, escape: str = "\\") -> str:
    """One instruction, without a newline at the end; more than one line when it has here-documents."""
    flags, arguments, heredocs = _parts(instruction)
    words = [f"--{name}" if value is True else _flag(name, value, escape) for name, value in flags if value is not None]
    if arguments.startswith("--"):
        words.append("--")
    line = " ".join([instruction.keyword, *words, *([arguments] if arguments else [])])
    if line[-1] in SPACES:
        # An escaped space would be cut off at the line's end. An escape character there counts for nothing.
        line += f" {escape}"
    if line.endswith(escape) and line[-2:-1] != escape:
        # A line that ends so goes on in the next one, but not when a space that is no blank comes after it.
        line += "\f"
    return "\n".join([line, *(heredoc.written for heredoc in heredocs)])


def _parts(instruction: ins.Instruction) -> tuple[list[_Flag], str, Sequence[HereDocument]]:
    """Flags, arguments and here-documents."""
    match instruction:
        case ins.From():
            stage = f"{instruction.image} AS {instruction.name}" if instruction.name else instruction.image
            return [("platform", instruction.platform or None)], stage, ()
        case ins.Run():
            return _run_flags(instruction), _command(instruction.command), instruction.heredocs
        case ins.Copy():
            return _copy_flags(instruction), _files(instruction), instruction.heredocs
        case ins.Add():
            return _add_flags(instruction), _files(instruction), instruction.heredocs
        case ins.HealthCheck():
            return _health_flags(instruction), _health(instruction), ()
        case ins.OnBuild():
            return [], instruction.text, instruction.heredocs
    return [], _arguments(instruction), ()


def _arguments(instruction: ins.Instruction) -> str:
    """The arguments of the instructions that have no flags."""
    match instruction:
        case ins.Cmd() | ins.Entrypoint():
            return _command(instruction.command)
        case ins.Env() | ins.Label():
            # Two spaces, since the key may end with an escape character, which takes the first to itself.
            return " ".join(f"{pair.key}{'  ' if pair.legacy else '='}{pair.value}" for pair in instruction.pairs)
        case ins.Arg():
            return " ".join(
                each.name if each.default is None else f"{each.name}={each.default}"
                for each in instruction.declarations
            )
        case ins.Expose():
            return " ".join(instruction.ports)
        case ins.Volume():
            return _words(instruction.paths)
        case ins.User():
            return instruction.user
        case ins.Workdir():
            return instruction.path
        case ins.Shell():
            return _json(instruction.arguments)
        case ins.StopSignal():
            return instruction.signal
        case ins.Maintainer():
            return instruction.maintainer
    raise TypeError(f"no instruction of a Dockerfile: {type(instruction).__name__}")


def _flag(name: str, value: str | bool | None, escape: str) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if _QUOTED.search(text) or escape in text:
        text = text.replace(escape, escape * 2).replace('"', f'{escape}"')
        text = f'"{text}"'
    return f"--{name}={text}"


def _run_flags(run: ins.Run) -> list[_Flag]:
    mounts: list[_Flag] = [("mount", mount.text) for mount in run.mounts]
    network = run.network if run.network != "default" else None
    security = run.security if run.security != "sandbox" else None
    return [*mounts, ("network", network), ("security", security)]


def _copy_flags(copy: ins.Copy) -> list[_Flag]:
    return [("from", copy.source_stage or None), *_common_flags(copy), ("parents", copy.parents or None)]


def _add_flags(add: ins.Add) -> list[_Flag]:
    flags: list[_Flag] = [*_common_flags(add), ("checksum", add.checksum or None)]
    return [*flags, ("keep-git-dir", add.keep_git_dir), ("unpack", add.unpack)]


def _common_flags(files: ins.Copy | ins.Add) -> list[_Flag]:
    excluded: list[_Flag] = [("exclude", pattern) for pattern in files.exclude]
    return [("chown", files.chown or None), ("chmod", files.chmod or None), ("link", files.link or None), *excluded]


def _health_flags(check: ins.HealthCheck) -> list[_Flag]:
    durations = {
        "interval": check.interval,
        "timeout": check.timeout,
        "start-period": check.start_period,
        "start-interval": check.start_interval,
    }
    flags: list[_Flag] = [(name, format_duration(value) if value else None) for name, value in durations.items()]
    return [*flags, ("retries", str(check.retries) if check.retries else None)]


def _health(check: ins.HealthCheck) -> str:
    kind, *arguments = check.test
    if kind == "NONE":
        return kind
    return f"CMD {arguments[0] if kind == 'CMD-SHELL' else _json(arguments)}"


def _command(command: ins.CommandLine) -> str:
    return "".join(command.arguments) if command.shell else _json(command.arguments)


def _files(files: ins.Copy | ins.Add) -> str:
    words = [source if isinstance(source, str) else source.word for source in files.sources]
    if files.heredocs:
        # Two spaces, since a word may end with an escape character, which takes the first to itself.
        return "  ".join((*words, files.destination))
    return _words((*words, files.destination))


def _words(words: Sequence[str]) -> str:
    """Words as they are, or as a JSON array where that would be read as something else."""
    plain = all(word and not _SPACE.search(word) for word in words)
    text = " ".join(words)
    return text if plain and "<<" not in text and not text.startswith(("[", "--")) else _json(words)


def _json(words: Iterable[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)
