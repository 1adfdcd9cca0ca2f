"""Files: the sources of pictures and weights (``asset``), the files in a run's folder (``run_folder``), and atomic
writing (``atomic``).
"""
