# PYTHON_ARGCOMPLETE_OK
"""The command ``nst``, which is also ``python -m nst``."""

import os
import shlex
import sys
from collections.abc import Sequence

import nst
from nst.cli import COMMANDS
from nst.errors import choices
from nst.files.streams import unfailing_streams

HELP = """\
Usage: nst COMMAND [WORD]...

A laboratory for neural style transfer.

Commands:
  train WORD...           paint a picture: python -m nst.train WORD...
  sweep WORD...           paint all combinations of values: nst train -m WORD...
  resume FOLDER WORD...   continue a run: nst train resume=FOLDER WORD...
  compare FOLDER...       compare runs: a table, a page, a sheet of pictures
  metrics FOLDER...       measure the pictures of runs
  studio                  serve a page that paints, watches and compares
  info                    describe this installation: versions, devices, files
  completion SHELL        print the completion for bash, zsh or fish

Examples:
  nst train content.path=photo.jpg style.path=painting.jpg size=512
  nst train style=picasso optimizer=adam evaluations=1500
  nst sweep style=starry_night,picasso weights.style=1e5,1e6
  nst resume outputs/2026-11-22/12-00-00 evaluations=900
  nst compare outputs/2026-11-22

More: nst COMMAND --help, nst --version"""


@unfailing_streams()
def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: that of the command, or 2 for an unknown command."""
    if "_ARGCOMPLETE" in os.environ:
        from nst.cli import completion

        completion.answer()
    words = sys.argv[1:] if words is None else words
    command, *rest = words or ["--help"]
    if command in ("-h", "--help"):
        print(HELP)
        return 0
    if command in ("-V", "--version"):
        print(f"nst {nst.__version__}")
        return 0
    if command not in COMMANDS:
        return _refuse(_unknown(words))
    return _run(command, rest)


def _run(command: str, words: list[str]) -> int:
    """Run a command. Each is imported alone, because torch and Hydra take a second."""
    match command:
        case "train" | "sweep":
            from nst.train import main as train

            return train(["-m", *words] if command == "sweep" else words)
        case "resume":
            return _resume(words)
        case "compare":
            from nst.compare.__main__ import main as compare

            return compare(words)
        case "metrics":
            from nst.metrics.__main__ import main as metrics

            return metrics(words)
        case "studio":
            from nst.studio.__main__ import main as studio

            return studio(words)
        case "info":
            from nst.cli import info

            return info.main(words)
    from nst.cli import completion

    return completion.main(words)


def _resume(words: list[str]) -> int:
    if words[:1] in (["-h"], ["--help"]):
        print("Usage: nst resume FOLDER [KEY=VALUE]...\n\nContinue the run in FOLDER, as nst train resume=FOLDER.")
        return 0
    if not words or words[0].startswith("-"):
        return _refuse("resume: give the folder of the run first: nst resume FOLDER [KEY=VALUE]...")
    from nst.train import main as train

    folder, *rest = words
    return train([f"resume={folder}", *rest])


def _unknown(words: Sequence[str]) -> str:
    command = words[0]
    if "=" in command or command.startswith("-"):
        return f"{command}: give the command first: nst train {shlex.join(words)}"
    return f"{command}: there is no such command; {choices(command, COMMANDS)}"


def _refuse(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 2
