"""Trains the bundled encoder, from nothing but textures that it generates: ``python -m nst.pretrain``."""
