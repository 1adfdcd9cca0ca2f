"""Execution of one run, from its plan to its picture.

``single`` starts a run from the command line or from Python, ``build`` makes its objects, and ``job`` runs it and
reports. ``follow`` computes the same run in its other processes, and ``provenance`` describes the machine and the
software. ``host`` leaves the program around ``nst.stylize`` as it was.
"""
