"""What the other processes of a run do: the same evaluations with other tiles, seen by nobody.

``python -m nst.follow FOLDER`` is started by the run's first process, whose folder it is; nothing is written there.
"""

import itertools
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nst.build import build_follower, prepare
from nst.errors import DivergedError, UserError
from nst.precision import full_float32
from nst.run_folder import RunFolder


def follow(path: Path) -> int:
    """Computes what the run in a folder computes, beside it; returns the exit status."""
    logging.disable()  # the first process says it all
    folder = RunFolder(path)
    cfg = OmegaConf.load(folder.config)
    assert isinstance(cfg, DictConfig)
    try:
        config, files = prepare(cfg)
        files.check(folder)
        module, trainer = build_follower(cfg, config, files, folder)
        with full_float32():
            trainer.fit(module, itertools.repeat(0), ckpt_path=folder.newest_checkpoint())
    except DivergedError:  # all processes find it at the same evaluation
        return 1
    except UserError as error:
        for line in error.problems:
            print(f"error: {line}", file=sys.stderr)
        return 2
    return 0


def _end_with_the_first() -> None:
    """Waits for the end of the first process, which holds the other end of this one's input."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):  # the first process decides what they mean
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    sys.exit(follow(Path(sys.argv[1])))
