"""`completion`: scripts that let bash, zsh and fish complete wherry's command line.

The scripts know nothing of wherry's commands: at each Tab they ask the hidden `wherry __complete -- WORD...`, which
walks the command table and, for names, asks the engine. So they never go stale.
"""

from __future__ import annotations

import sys

from wherry.cli.commands import TOP, Entry, Group
from wherry.cli.session import CommandError, Session, command
from wherry.client.transport import ClientError
from wherry.common import flags
from wherry.common.flags import Flag, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Word = tuple[str, str]
    Names = Callable[[Session], Iterable[Word]]

# Each gets candidates as "word<tab>description" lines, then ":files" where a file may stand, or ":".
BASH = r"""# bash completion for wherry: source <(wherry completion bash)
_wherry() {
    local word="${COMP_WORDS[COMP_CWORD]}" line candidates=() files=
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    if declare -F _get_comp_words_by_ref >/dev/null; then
        local cword words_all
        _get_comp_words_by_ref -n "=:" -w words_all -i cword -c word
        words=("${words_all[@]:1:cword}")
    fi
    while IFS= read -r line; do
        case "$line" in
            :files) files=1 ;;
            :) ;;
            *) candidates+=("${line%%$'\t'*}") ;;
        esac
    done < <("${COMP_WORDS[0]}" __complete -- "${words[@]}" 2>/dev/null)
    COMPREPLY=("${candidates[@]}")
    [[ ${#candidates[@]} -eq 1 && ${candidates[0]} == *[=:] ]] && compopt -o nospace
    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$word")
    fi
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$word"
}
complete -F _wherry wherry
"""

ZSH = r"""#compdef wherry
# zsh completion for wherry: source <(wherry completion zsh)
_wherry() {
    local line files= candidate text found=1
    local -a described
    while IFS= read -r line; do
        case "$line" in
            :files) files=1 ;;
            :) ;;
            *)
                candidate="${line%%$'\t'*}"
                text="${line#*$'\t'}"
                described+=("${candidate//:/\\:}${text:+:$text}")
                ;;
        esac
    done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#described )) && _describe -V 'wherry' described && found=0
    [[ -n $files ]] && _files && found=0
    return found
}
if [ "$funcstack[1]" = "_wherry" ]; then
    _wherry "$@"
else
    compdef _wherry wherry
fi
"""

FISH = r"""# fish completion for wherry: wherry completion fish | source
function __wherry_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in ($words[1] __complete -- $words[2..-1] 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path (commandline -ct)
            case ':'
            case '*'
                echo $line
        end
    end
end
complete -c wherry -f -a '(__wherry_complete)'
"""

SCRIPTS = {"bash": BASH, "fish": FISH, "zsh": ZSH}


@command(
    description="""Generate the completion script for a shell

  bash:  source <(wherry completion bash)
  zsh:   source <(wherry completion zsh)
  fish:  wherry completion fish | source"""
)
def run_completion(session: Session, options: Options) -> None:
    shell = options.arguments[0]
    if shell not in SCRIPTS:
        raise CommandError(f"unknown shell {shell!r}: use {', '.join(SCRIPTS)}")
    sys.stdout.write(SCRIPTS[shell])


@command(arguments=(0, None), interspersed=False)
def run_complete(session: Session, options: Options) -> None:

    found = complete(session, options.arguments)
    sys.stdout.write("".join(f"{word}\t{text.splitlines()[0] if text else ''}\n" for word, text in found.words))
    sys.stdout.write(":files\n" if found.files else ":\n")


# What the last word of a command line may become: commands, flags and their values, names the engine knows.
#
# All of it comes from the command table: which names an argument takes is what the command's usage says of it.


class Completions:
    """Words with what they mean, and whether a file may stand there, too."""

    def __init__(self, words: Iterable[Word] = (), *, files: bool = False) -> None:
        self.words, self.files = list(words), files

    def beginning(self, start: str, prefix: str = "") -> Completions:
        """The words that begin so; `prefix` is put before each (--network=…)."""
        words = {word: text for word, text in self.words if word.startswith(start)}
        return Completions(((prefix + word, text) for word, text in words.items()), files=self.files)


# Names of things


def _containers(wanted: Sequence[str] = ()) -> Names:
    """Names of all containers, or of those in one of these states."""

    def find(session: Session) -> Iterable[Word]:
        filters = {"status": list(wanted)} if wanted else None
        for container in session.client.containers.list(all=True, filters=filters):
            about = f"{container['Image']}, {container['Status']}"
            names = [str(name)[1:] for name in container.get("Names") or ()]
            yield from ((name, about) for name in names or [container["Id"][:12]])

    return find


def _images(session: Session) -> Iterable[Word]:
    for image in session.client.images.list():
        tags = image.get("RepoTags") or ()
        yield from ((tag, "") for tag in tags)
        yield from ((tag.removesuffix(":latest"), "") for tag in tags if tag.endswith(":latest"))


def _contexts(session: Session) -> Iterable[Word]:
    from wherry.cli.context_store import Store

    for context in Store(session.config_directory).all():
        yield context.name, context.description


RUNNING = _containers(("running",))
ALL_CONTAINERS = _containers()
# What an argument is, by its name in the usage.
NOUNS: dict[str, Names] = {
    "CONTAINER": ALL_CONTAINERS,
    "CONTEXT": _contexts,
    "IMAGE": _images,
    "NAME|ID": lambda session: [*ALL_CONTAINERS(session), *_images(session)],
    "NETWORK": lambda session: ((each["Name"], each["Driver"]) for each in session.client.networks.list()),
    "REPOSITORY[:TAG]": _images,
    "SOURCE_IMAGE[:TAG]": _images,
    "VOLUME": lambda session: ((each["Name"], each["Driver"]) for each in session.client.volumes.list()),
}
# Commands that only some containers are of use to.
STATES: dict[str, Names] = {
    **dict.fromkeys(("attach", "exec", "kill", "pause", "port", "stats", "top"), RUNNING),
    "start": _containers(("created", "exited", "dead")),
    "stop": _containers(("running", "paused", "restarting")),
    "unpause": _containers(("paused",)),
}
FILES = frozenset(("file|URL|-", "[file|-]", "DEST_PATH|-", "SRC_PATH|-"))


def _fixed(*words: str) -> Names:
    return lambda _: [(word, "") for word in words]


_SIGNALS = _fixed("SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGSTOP", "SIGCONT", "SIGTERM", "SIGUSR1", "SIGUSR2")
# The values of flags that are one of a few, or names.
VALUES: dict[str, Names] = {
    "context": _contexts,
    "default-cgroupns-mode": _fixed("host", "private"),
    "default-ipc-mode": _fixed("private", "shareable"),
    "default-runtime": _fixed("runc", "wherry"),
    "format": _fixed("json", "table"),
    "log-driver": _fixed("journald", "json-file", "local", "none", "syslog"),
    "log-format": _fixed("json", "text"),
    "log-level": _fixed("debug", "error", "fatal", "info", "warn"),
    "network": lambda session: [*NOUNS["NETWORK"](session), ("container:", "")],
    "pull": _fixed("always", "missing", "never"),
    "restart": _fixed("always", "no", "on-failure", "unless-stopped"),
    "signal": _SIGNALS,
    "stop-signal": _SIGNALS,
    "type": _fixed("container", "image", "network", "volume"),
    "volumes-from": ALL_CONTAINERS,
}
FILE_FLAGS = frozenset(("cidfile", "config", "config-file", "data-root", "env-file", "exec-root", "iidfile",
                        "init-path", "input", "label-file", "output", "pidfile", "seccomp-profile", "tlscacert",
                        "tlscert", "tlskey", "volume"))  # fmt: skip


def complete(session: Session, words: Sequence[str]) -> Completions:
    """`words` are those behind the program's name, the last one still being typed. No engine is started for it."""
    from wherry.cli.main import global_flags

    *before, last = words or [""]
    known = global_flags()
    try:
        options = flags.parse(known, before, interspersed=False)
    except (flags.FlagError, flags.HelpRequested):
        return _after_flag(session, known, before, last)
    if options.count:
        session = Session(options)  # the line that is being completed may be for another engine
    rest = options.arguments
    found: Entry | Group | None = None
    for depth, word in enumerate(rest):
        found = TOP.get(word) if depth == 0 else found.find(word) if isinstance(found, Group) else None
        if found is None:
            return Completions()
        if isinstance(found, Entry):
            return _of_command(session, rest[depth], found, rest[depth + 1 :], last)
    if last.startswith("-"):
        return _flag(session, known if found is None else [], last)
    table = found.commands if isinstance(found, Group) else TOP
    visible = [(name, entry.short) for name, entry in table.items() if not (isinstance(entry, Entry) and entry.hidden)]
    return Completions(visible).beginning(last)


def _of_command(session: Session, name: str, entry: Entry, before: Sequence[str], last: str) -> Completions:
    command = entry.load()
    try:
        options = flags.parse(command.flags, before, interspersed=command.interspersed)
    except (flags.FlagError, flags.HelpRequested):
        return _after_flag(session, command.flags, before, last)
    only_arguments = "--" in before or (options.arguments and not command.interspersed)
    if last.startswith("-") and not only_arguments:
        return _flag(session, command.flags, last)
    return _argument(session, name, entry.usage, len(options.arguments), last)


def _flag(session: Session, known: Iterable[Flag], last: str) -> Completions:
    name, equals, start = last.removeprefix("--").partition("=")
    if last.startswith("--") and equals:
        flag = next((flag for flag in known if flag.name == name), None)
        return _values(session, flag).beginning(start, f"--{name}=") if flag else Completions()
    shown = [(f"--{flag.name}", flag.usage) for flag in known if not (flag.hidden or flag.deprecated)]
    return Completions([*sorted(shown), ("--help", "Print usage")]).beginning(last)


def _after_flag(session: Session, known: Iterable[Flag], before: Sequence[str], last: str) -> Completions:
    """Where words cannot be parsed, it is most often since the last of them is a flag that wants a value."""
    wanting = before[-1] if before else ""
    for flag in known:
        ends_in_letter = wanting[:1] == "-" and wanting[:2] != "--" and wanting[-1:] == flag.short != ""
        if flag.kind and (wanting == f"--{flag.name}" or ends_in_letter):
            return _values(session, flag).beginning(last)
    return Completions()


def _values(session: Session, flag: Flag) -> Completions:
    if flag.name in FILE_FLAGS:
        return Completions(files=True)
    return Completions(_asked(session, VALUES[flag.name])) if flag.name in VALUES else Completions()


def _argument(session: Session, name: str, usage: str, at: int, last: str) -> Completions:
    """`at`: how many arguments are there before it."""
    if name == "cp":
        return _path(session, last)
    words = [word for word in usage.split() if word != "[OPTIONS]"]
    nouns = [word.strip("[]").removesuffix("...") for word in words]
    repeats = "..." in usage.rpartition(" ")[2]
    noun = nouns[at] if at < len(nouns) else nouns[-1] if nouns and repeats else ""
    if noun.startswith("REPOSITORY"):
        noun = "REPOSITORY[:TAG]"
    if noun in FILES:
        return Completions(files=True)
    if "|" in noun and noun not in NOUNS:
        return Completions((word, "") for word in noun.split("|")).beginning(last)
    find = STATES.get(name) if noun == "CONTAINER" else None
    find = find or NOUNS.get(noun)
    return Completions(_asked(session, find)).beginning(last) if find else Completions(files=noun in ("COMMAND", "ARG"))


def _path(session: Session, last: str) -> Completions:
    """A local path, or a container's, of which only the container is known here."""
    names = [(f"{name}:", about) for name, about in _asked(session, ALL_CONTAINERS)]
    found = Completions(names).beginning(last)
    found.files = True
    return found


def _asked(session: Session, find: Names) -> list[Word]:
    """Nothing where no engine answers: a Tab is no place for an error."""
    try:
        session.endpoint.own = False  # nor for starting one
        return list(find(session))
    except (ClientError, CommandError, LookupError, TypeError):
        return []
