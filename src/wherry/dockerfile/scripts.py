"""What a RUN gives to its shell when it has here-documents."""

from msgspec import Struct

from wherry.dockerfile.heredocs import parse_start
from wherry.dockerfile.instructions import CommandLine, Run

SCRIPT_DIRECTORY = "/dev/pipes"


class Script(Struct, frozen=True):
    """A file that a RUN brings with it: to be there while it runs, executable (0755), and not in the image."""

    path: str
    content: str


def run_command(run: Run) -> tuple[CommandLine, Script | None]:
    """The command to run and the script that it needs.

    ``RUN <<EOF`` alone gives the text to the shell, so that it works in shells without here-documents; a text that
    begins with ``#!`` becomes a script of its own. With a command before it (``RUN python3 <<EOF``) command and
    here-documents go to the shell as they are written.
    """
    if not run.heredocs or not run.command.shell:
        return run.command, None
    text, first = run.command.arguments[0], run.heredocs[0]
    if parse_start(text) is None:
        return CommandLine(("\n".join([text, *(heredoc.written for heredoc in run.heredocs)]),), shell=True), None
    if not first.content.startswith("#!"):
        return CommandLine((first.content,), shell=True), None
    script = Script(f"{SCRIPT_DIRECTORY}/{first.name}", first.content)
    return CommandLine((script.path,), shell=True), script
