"""`wh completion`."""

from __future__ import annotations

import click

from whtools.application import command
from whtools.parameters import OneOf

BASH = """\
_wh() {
    local candidate
    COMPREPLY=()
    while IFS= read -r candidate; do
        if [[ $candidate == :files ]]; then
            compopt -o filenames
            while IFS= read -r candidate; do
                COMPREPLY+=("$candidate")
            done < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
        elif [[ -n $candidate ]]; then
            COMPREPLY+=("$candidate")
        fi
    done < <(wh _complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _wh wh
"""

ZSH = """\
#compdef wh
_wh() {
    local -a candidates
    candidates=(${(f)"$(wh _complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( ${candidates[(Ie):files]} )); then
        candidates=(${candidates:#:files})
        _files
    fi
    compadd -a -- candidates
}
if [[ $funcstack[1] == _wh ]]; then
    _wh "$@"
else
    compdef _wh wh
fi
"""

FISH = """\
function __wh_complete
    set -l words (commandline -opc) (commandline -ct)
    for candidate in (wh _complete $words[2..-1] 2>/dev/null)
        if test "$candidate" = :files
            __fish_complete_path (commandline -ct)
        else
            echo $candidate
        end
    end
end
complete -c wh -f -a '(__wh_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@command("completion")
@click.argument("shell", type=OneOf(*SCRIPTS), metavar="{bash | zsh | fish}")
def completion(shell: str) -> None:
    """Print a script that completes commands, interfaces and the names of peers.

    For bash: wh completion bash > /usr/share/bash-completion/completions/wh
    """
    click.echo(SCRIPTS[shell], nl=False)
