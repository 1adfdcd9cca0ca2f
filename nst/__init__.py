"""nst: a laboratory for neural style transfer (Gatys, Ecker and Bethge, arXiv:1508.06576)."""
