"""Train the bundled encoder from textures that it generates: ``python -m experiments.slim_encoder.pretrain``."""
