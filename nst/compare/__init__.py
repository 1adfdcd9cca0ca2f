"""Comparison of runs from their folders: a table, a contact sheet and a page. It needs neither torch nor Hydra."""
