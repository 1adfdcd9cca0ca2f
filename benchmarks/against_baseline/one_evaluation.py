"""Measure one evaluation in a process of its own: ``python -m benchmarks.against_baseline.one_evaluation TASK``.

The task is JSON (see ``benchmarks.against_baseline.memory``), and so is the output. The timed evaluation comes after as
many others as the task says, and an iteration of L-BFGS after it if the task asks for it. The process of the baseline
imports nothing of nst that takes memory.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.against_baseline.clock import seconds
from nst.errors import UserError
from nst.run import provenance


def measure(task: dict[str, Any]) -> dict[str, float]:
    """Peak memory in bytes, of the device on CUDA and of the process elsewhere; and the seconds of an evaluation.

    ``imports`` is the process's peak before anything was made. Our side also has the ``forecast`` of its bytes, and
    with a history the seconds of an ``iteration``.
    """
    found: dict[str, float] = {}
    torch.set_num_threads(task["threads"])
    device = torch.device(task["device"])
    pixels = (task["pixels"][0], task["pixels"][1])
    with tempfile.TemporaryDirectory() as folder:
        evaluate: Callable[[], object]
        if task["side"] == "baseline":
            from benchmarks.against_baseline import theirs

            imports = provenance.peak_memory(device)
            evaluate = theirs.evaluation(pixels, task["content_layers"], task["style_layers"], device)
        else:
            from benchmarks.against_baseline import ours
            from nst.run import build  # noqa: F401  (its imports take memory, too)

            imports = provenance.peak_memory(device)
            run = ours.ready(pixels, task["overrides"], device, Path(folder))
            evaluate = ours.evaluation(run)
            found["forecast"] = run.forecast.total
        for _ in range(task["before"]):
            evaluate()
        found["seconds"] = seconds(evaluate, device)
        if task["history"]:
            found["iteration"] = ours.iterate(run, evaluate)
    return {"bytes": provenance.peak_memory(device), "imports": imports, **found}


if __name__ == "__main__":
    try:
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
