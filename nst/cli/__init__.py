"""The command ``nst``: one name for the modules that have a command line.

``vocabulary`` reads groups, options and keys without Hydra, for the ``completion`` of shells; ``info`` describes the
installation.
"""
