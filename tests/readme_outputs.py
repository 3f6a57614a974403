"""README's outputs, made anew: every console block that shows one gets what its command prints now.

python tests/readme_outputs.py
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
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


def main() -> None:
    """Rewrite README."""
    text = README.read_text(encoding="utf-8")
    README.write_text(renewed(text), encoding="utf-8")
    sys.stdout.write(f"{len(shown_outputs(text))} outputs in {README.name} are as the commands print them now\n")


if __name__ == "__main__":
    main()
