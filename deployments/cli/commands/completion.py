"""The script by which a shell completes the commands."""

import pathlib
import shlex
import sys

import click

_HERE = str(pathlib.Path(__file__).resolve().parents[1])

_FUNCTION = """\
if ! type breakwater >/dev/null 2>&1; then
    function breakwater { COMMAND "$@"; }
fi
"""

_BASH = """\
_breakwater_completion() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(local IFS=$'\\n'; env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" \\
        _BREAKWATER_COMPLETE=bash_complete COMMAND 2>/dev/null)
}
complete -o nosort -F _breakwater_completion breakwater
"""

_ZSH = """\
_breakwater_completion() {
    local kind key help
    local -a lines plain described
    lines=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        _BREAKWATER_COMPLETE=zsh_complete COMMAND 2>/dev/null)}")
    for kind key help in ${lines}; do
        case $kind in
            file) _path_files -f ;;
            dir) _path_files -/ ;;
            plain) if [[ $help == _ ]]; then plain+=("$key"); else described+=("$key:$help"); fi ;;
        esac
    done
    [[ -n $described ]] && _describe -V unsorted described -U
    [[ -n $plain ]] && compadd -U -V unsorted -a plain
}
compdef _breakwater_completion breakwater
"""

_FISH = """\
if not type -q breakwater
    function breakwater
        COMMAND $argv
    end
end
function _breakwater_completion
    for line in (env _BREAKWATER_COMPLETE=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) \\
            COMMAND 2>/dev/null)
        set -l parts (string split -m 1 , -- $line)
        switch $parts[1]
            case file
                __fish_complete_path $parts[2]
            case dir
                __fish_complete_directories $parts[2]
            case plain
                echo $parts[2]
        end
    end
end
complete --no-files --command breakwater --arguments "(_breakwater_completion)"
"""


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script for a shell: it makes the word `breakwater`, unless there is one, and completes it.

    \b
    bash, in ~/.bashrc:                   eval "$(... completion bash)"
    zsh, in ~/.zshrc, behind compinit:    eval "$(... completion zsh)"
    fish, in ~/.config/fish/config.fish:  ... completion fish | source

    where ... is `uv run --directory CHECKOUT python -m deployments.cli`. An alias or a function of yours with the name
    breakwater stays as it is, and is completed too; in zsh let it be a function.
    """
    print(script_of(shell), end="")


def script_of(shell: str) -> str:
    """Return the script. It names this Python and this folder, so that it works in every folder, and without uv."""
    words = (sys.executable, _HERE)
    if shell == "fish":
        return _FISH.replace("COMMAND", " ".join(map(_fish_quoted, words)))
    return (_FUNCTION + {"bash": _BASH, "zsh": _ZSH}[shell]).replace("COMMAND", " ".join(map(shlex.quote, words)))


def _fish_quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
