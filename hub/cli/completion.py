"""`krin completion`: what makes the tab key know the commands."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

# A namespace is offered with its colon, and the rest of the name follows it: no space, and no word ends there.
PLAIN_IN_BASH = "elif [[ $type == 'plain' ]]; then"
PLAIN_IN_ZSH = 'if [[ "$type" == "plain" ]]; then'
PLAIN_IN_FISH = 'test $metadata[1] = "plain";'


class Bash(BashComplete):
    source_template = (
        BashComplete.source_template.replace(
            PLAIN_IN_BASH,
            f"elif [[ $type == 'nospace' ]]; then\n            COMPREPLY+=($value)\n            compopt -o nospace\n"
            f"        {PLAIN_IN_BASH}",
        )
        + "COMP_WORDBREAKS=${COMP_WORDBREAKS//:}\n"
    )


class Zsh(ZshComplete):
    source_template = ZshComplete.source_template.replace(
        PLAIN_IN_ZSH,
        f'if [[ "$type" == "nospace" ]]; then\n            compadd -U -S "" -- "$key"\n        el{PLAIN_IN_ZSH}',
    )


class Fish(FishComplete):
    source_template = FishComplete.source_template.replace(PLAIN_IN_FISH, "contains -- $metadata[1] plain nospace;")


SHELLS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the script that completes krin's commands, options, namespaces and message types in a shell.

    For bash, in ~/.bashrc: source <(krin completion bash). For zsh, in ~/.zshrc after compinit: source <(krin
    completion zsh). For fish: krin completion fish > ~/.config/fish/completions/krin.fish.
    """
    root = click.get_current_context().find_root().command
    click.echo(SHELLS[shell](root, {}, "krin", "_KRIN_COMPLETE").source())
