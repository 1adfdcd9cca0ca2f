"""Lightning callbacks for everything in a run besides the optimization. All of them count evaluations.

``record`` writes losses to a table and to the loggers, ``pictures`` saves and shows intermediate pictures,
``checkpoint`` saves the state for resuming, ``stop`` handles signals, and ``progress`` and ``live`` show the progress.
"""

from nst.callbacks.checkpoint import Checkpoint
from nst.callbacks.live import Live
from nst.callbacks.pictures import Film, Preview, Snapshot
from nst.callbacks.progress import ProgressBar
from nst.callbacks.record import Overview, Record
from nst.callbacks.stop import Stop

__all__ = ["Checkpoint", "Film", "Live", "Overview", "Preview", "ProgressBar", "Record", "Snapshot", "Stop"]
