"""Files: the sources of pictures and weights (``asset``), the files in a run's folder (``run_folder``), atomic writing
(``atomic``), and memory pages of temporary files (``pages``).
"""
