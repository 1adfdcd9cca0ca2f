"""Entry point of a run's other processes, which compute the same evaluations with other tiles and show nothing.

The run's first process starts ``python -m nst.run.follow FOLDER`` with its own folder. Only parts of checkpoints are
written there.
"""

import itertools
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from nst.encoder.precision import full_float32
from nst.errors import DivergedError, UserError
from nst.files.run_folder import RunFolder
from nst.files.signals import REQUEUE
from nst.plan.planning import make_plan
from nst.run.build import build_follower


def follow(path: Path) -> int:
    """Compute the run in a folder together with its first process; return the exit status."""
    logging.disable()  # the first process logs everything
    folder = RunFolder(path)
    cfg = OmegaConf.load(folder.config)
    assert isinstance(cfg, DictConfig)
    try:
        planned = make_plan(cfg)
        planned.files.check(folder)
        module, trainer = build_follower(planned, folder)
        with full_float32():
            trainer.fit(module, itertools.repeat(0), ckpt_path=folder.newest_checkpoint())
    except DivergedError:  # all processes raise it at the same evaluation
        return 1
    except UserError as error:
        for line in error.problems:
            print(f"error: {line}", file=sys.stderr)
        return 2
    return 0


def _end_with_the_first() -> None:
    """Exit when the first process, which holds the other end of this process's standard input, has ended."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, *REQUEUE):  # the first process handles them
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    sys.exit(follow(Path(sys.argv[1])))
