"""The runs of a sweep: each is known by what it computes, so that a sweep goes on when its command is given again.

A sweep's folder holds a folder for each run, and in ``.jobs/`` what belongs to the jobs that computed them, by number:
Hydra's papers, and the outcome of each job of the last command.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from rich.markup import escape
from rich.table import Table

from nst.file import sha256, write_text
from nst.run_folder import RunFolder

#: The keys that say how a run is made, and what becomes of its picture; not what it computes.
HOW = (
    "assets", "callbacks", "logger", "max_pixels", "memory", "minimize", "name", "output", "rerun", "resume",
    "threads", "tile", "trainer",
)  # fmt: skip

#: Those, and the keys whose files are known by their SHA-256 instead.
NOT_COMPUTED = (*HOW, "content")

#: The keys of an input, a style or an encoder, that say which it is.
NAMES = ("name", "path", "url", "sha256", "architecture", "weights")

#: Those, and the keys of the other files beside it.
FILES = (*NAMES, "region", "mask", "normalize_on")

#: The keys, or the groups of keys, that a run may change when it goes on.
MAY_CHANGE = (
    "evaluations", "max_pixels", "memory", "output", "recovery", "threads", "tile", "assets", "trainer", "callbacks",
)  # fmt: skip

State = Literal["running", "ran", "kept", "continued", "failed", "interrupted"]


def identity(config: Mapping[str, Any], files: Mapping[str, Any]) -> str:
    """What a run computes, as 10 hexadecimal digits of a SHA-256: the same for the same pictures, weights and numbers.

    ``config`` is a resolved configuration; ``files`` says of the pictures and the weights what they really are.
    Neither paths nor loggers, callbacks, devices or threads have a part in it.
    """
    kept = {key: value for key, value in config.items() if key not in NOT_COMPUTED}
    kept |= {group: without(FILES, kept.get(group)) for group in ("style", "encoder")}
    start = kept.get("init")
    if isinstance(start, Mapping):
        start = {key: value for key, value in start.items() if key not in NOT_COMPUTED}
        path = Path(str(start.get("path"))).expanduser()
        kept["init"] = {**start, "path": sha256(path)} if path.is_file() else start
    text = json.dumps(_plain({**kept, "files": files}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def without(keys: Sequence[str], node: Any) -> Any:
    """A node of a configuration without some keys, wherever in it they are."""
    if not isinstance(node, Mapping):
        return node
    return {key: without(keys, value) for key, value in node.items() if key not in keys}


def _plain(value: Any) -> Any:
    """The same number is the same value, however it was written: 1e5, 100000."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class Outcome:
    """What became of a job: the overrides that made it, its run's folder, and what went wrong."""

    number: int
    overrides: list[str]
    state: State
    folder: str | None = None
    error: str | None = None


class Sweep:
    """The folder of a sweep.

    Args:
        path: the folder; it is made when the first file is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._jobs = path / ".jobs"
        self._varied = self._jobs / "varied"

    @contextmanager
    def claim(self, identity: str, name: str) -> Iterator[RunFolder]:
        """The folder of the run that ``identity`` stands for, ``NAME-IDENTITY`` for a new one.

        A job that computes the same run at this moment is waited for, also one on another machine.
        """
        lock = self._jobs / "locks" / identity
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            existing = sorted(self.path.glob(f"*-{identity}"))
            folder = existing[0] if existing else self.path / f"{name}-{identity}"
            folder.mkdir(exist_ok=True)
            yield RunFolder(folder)

    def record(self, outcome: Outcome) -> None:
        """Writes down what became of a job, or that it began."""
        self._jobs.mkdir(exist_ok=True)
        write_text(self._jobs / f"{outcome.number}.json", json.dumps(asdict(outcome), indent=2) + "\n")

    def begin(self, varied: Sequence[str]) -> None:
        """Notes which keys this command varies, and forgets the outcomes of an earlier one, not its runs."""
        self._jobs.mkdir(parents=True, exist_ok=True)
        for path in self._jobs.glob("*.json"):
            path.unlink()
        write_text(self._varied, "".join(f"{key}\n" for key in dict.fromkeys(varied)))

    def varied(self) -> list[str]:
        """The keys and groups that differ from run to run."""
        return self._varied.read_text(encoding="utf-8").split() if self._varied.is_file() else []

    def outcomes(self) -> list[Outcome]:
        """Of the jobs of the last command, by number."""
        found = [Outcome(**json.loads(path.read_text(encoding="utf-8"))) for path in self._jobs.glob("*.json")]
        return sorted(found, key=lambda outcome: outcome.number)

    def table(self, outcomes: Sequence[Outcome]) -> Table:
        """What ran, was kept, went on or failed, and why; of the overrides those that not all runs share."""
        table = Table("", "run", "outcome", "total", "content", "style", box=None, pad_edge=False)
        for outcome in outcomes:
            own = [word for word in outcome.overrides if not all(word in other.overrides for other in outcomes)]
            state = "ended without a word" if outcome.state == "running" else outcome.state
            table.add_row(str(outcome.number), escape(" ".join(own)), state, *self._losses(outcome))
            if outcome.error is not None:
                table.add_row("", escape(f"  {outcome.error}"))
        return table

    def _losses(self, outcome: Outcome) -> list[str]:
        if outcome.folder is None or outcome.state in ("failed", "running"):
            return []
        losses = RunFolder(Path(outcome.folder)).read_summary().get("losses", {})
        return [f"{losses[name]:.4g}" for name in ("total", "content", "style") if name in losses]
