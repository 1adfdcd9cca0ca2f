"""Painted stand-ins for well-known example pictures.

Each picture has a module with a function `paint(size)`, which returns an image
whose longest side is `size` pixels.  Painting is deterministic: all randomness
comes from seeds written in the modules.
"""
