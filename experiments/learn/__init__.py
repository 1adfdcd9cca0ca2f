"""The pictures of ``docs/learn``: what each equation of the method does, painted by the real network."""
