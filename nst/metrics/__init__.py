"""Measures of finished pictures that don't depend on the objective: ``functional`` has the formulas, ``observer`` the
network that reads the pictures, ``measure`` measures the picture of a run's folder.
"""
