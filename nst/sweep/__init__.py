"""Sweeps: many runs from one command, which are resumed if the command is given again.

``command`` runs a sweep and reports its outcome, ``point`` executes one of its runs, and ``folder`` manages the files
of both. ``optuna`` continues a search that is stored on disk.
"""
