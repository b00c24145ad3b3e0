"""``commit --change`` and ``import --change``: some of a Dockerfile's instructions, applied to a configuration."""

from collections.abc import Iterable

from wherry.dockerfile.configure import configure, sets_command
from wherry.dockerfile.errors import DockerfileError
from wherry.dockerfile.lexer import Lexer
from wherry.dockerfile.parser import parse_statement
from wherry.dockerfile.statements import read_statements
from wherry.dockerfile.substitution import expand_instruction
from wherry.model.config import ContainerConfig

_ALLOWED = frozenset(
    ("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")
)


def apply_changes(config: ContainerConfig, changes: Iterable[str]) -> ContainerConfig:
    """The configuration after the changes, in order. ``config`` itself stays as it is.

    Variables are those of the configuration's environment. As in Docker, an ENTRYPOINT drops the command unless a CMD
    comes before it among the changes.

    Raises DockerfileError, for an instruction that is not allowed with Docker's text: ``RUN is not a valid change
    command``.
    """
    changes = list(changes)
    lexer = Lexer("\n".join(changes), "")
    instructions = []
    for statement in read_statements(lexer):
        if statement.keyword not in _ALLOWED:
            raise DockerfileError(f"{statement.written} is not a valid change command", statement.position)
        instructions.append(parse_statement(statement))
    if changes and not instructions:
        raise DockerfileError("file with no instructions")
    command_set = False
    for instruction in instructions:
        variables = dict(variable.partition("=")[::2] for variable in config.env or ())
        expanded = expand_instruction(instruction, variables, escape=lexer.escape)
        config = configure(config, expanded, command_set=command_set)
        command_set = command_set or sets_command(instruction)
    return config
