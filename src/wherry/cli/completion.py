"""`completion`: scripts that let bash, zsh and fish complete wherry's command line.

The scripts know nothing of wherry's commands: at each Tab they ask the hidden `wherry __complete -- WORD...`, which
walks the command table and, for names, asks the engine. So they never go stale.
"""

from __future__ import annotations

import sys

from wherry.cli.command import CommandError, Session, command
from wherry.cli.flags import Options

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
    from wherry.cli.candidates import complete

    found = complete(session, options.arguments)
    sys.stdout.write("".join(f"{word}\t{text.splitlines()[0] if text else ''}\n" for word, text in found.words))
    sys.stdout.write(":files\n" if found.files else ":\n")
