"""README's outputs, made anew: every console block that shows one gets what its command prints now.

The table of the service's settings is made anew as well, from the options of ``ecgadvise serve``.

python tests/readme_outputs.py
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import typer

from advisor.cli import build_app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SERVICE = ROOT / "advisor" / "service" / "README.md"
# A command goes on in the next line after a pipe; a block of commands alone shows no output.
_BLOCK = re.compile(r"```console\n\$ (?P<command>(?:[^\n]*\|\n)*[^\n]*)\n(?P<output>(?:(?!\$ |```).*\n)+)```")


def shown_outputs(text: str) -> list[tuple[str, str]]:
    """Return the commands whose output is shown, each with that output."""
    return [(found["command"], found["output"]) for found in _BLOCK.finditer(text)]


def run_command(command: str) -> str:
    """Return what a command line, pipes and all, prints in the repository's root. Raises on anything on stderr."""
    ours = f'ecgadvise() {{ {shlex.quote(sys.executable)} -m ecgadvise "$@"; }}'
    ended = subprocess.run(
        ["bash", "-c", f"{ours}\n{command}"], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )
    if ended.stderr or ended.returncode:
        raise RuntimeError(f"{command} ended with {ended.returncode}: {ended.stderr}")
    return ended.stdout


def renewed(text: str) -> str:
    """Return the text with every shown output replaced by what its command prints."""
    return _BLOCK.sub(lambda found: f"```console\n$ {found['command']}\n{run_command(found['command'])}```", text)


def settings_table() -> str:
    """Return the options of ``ecgadvise serve`` that have a variable in the environment, as a table."""
    command = typer.main.get_command(build_app("serve")).commands["serve"]
    rows = ["| option | variable | default | what it is |", "| --- | --- | --- | --- |"]
    for one in command.params:
        if (variable := getattr(one, "envvar", None)) is None:
            continue
        default = (
            ""
            if one.default is None
            else f"`{one.default:g}`"
            if isinstance(one.default, int | float)
            else (f"`{one.default}`")
        )
        rows.append(f"| `{one.opts[0]}` | `{variable}` | {default} | {one.help} |")
    return "\n".join(rows)


def with_settings(text: str) -> str:
    """Return the service's README with the table of settings as it is now."""
    opening, ending = "<!-- settings: python tests/readme_outputs.py -->\n", "<!-- end of settings -->"
    before, _, rest = text.partition(opening)
    return f"{before}{opening}{settings_table()}\n{ending}{rest.partition(ending)[2]}"


def main() -> None:
    """Rewrite README and the service's table."""
    SERVICE.write_text(with_settings(SERVICE.read_text(encoding="utf-8")), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    README.write_text(renewed(text), encoding="utf-8")
    sys.stdout.write(f"{len(shown_outputs(text))} outputs in {README.name} are as the commands print them now\n")


if __name__ == "__main__":
    main()
