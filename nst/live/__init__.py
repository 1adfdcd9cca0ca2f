"""Watching a run while it is optimized: its progress from the files in its folder, as HTML, and a page for one run."""
