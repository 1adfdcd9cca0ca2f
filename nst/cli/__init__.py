"""The command ``nst``: one name for the modules that have a command line.

``vocabulary`` reads groups, options and keys without Hydra, for the ``completion`` of shells; ``info`` describes the
installation.
"""

#: The commands, as a shell describes them.
COMMANDS = {
    "train": "paint a picture",
    "sweep": "paint all combinations of values",
    "resume": "continue a run",
    "compare": "compare runs",
    "metrics": "measure the pictures of runs",
    "studio": "serve a page that paints, watches and compares",
    "info": "describe this installation",
    "completion": "print the completion for a shell",
}
