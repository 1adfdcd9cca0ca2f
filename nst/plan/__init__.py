"""The plan of a run: everything that is decided once, before the first evaluation.

``planning`` makes the plan from the files (``inputs``), the ``pictures``, the encoder (``network``), the sizes
(``layout``), the ``devices``, including processes started by ``torchrun``, and the memory (``forecast``).
"""
