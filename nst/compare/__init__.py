"""Runs side by side, from their folders alone: a table, a contact sheet, a page. Needs neither torch nor Hydra."""
