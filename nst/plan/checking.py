"""Check a configuration without importing torch or downloading anything, so that most mistakes are reported quickly."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst import paths
from nst.config.keys import renamed
from nst.config.schema import Config, is_address, styles_in
from nst.config.validation import validated
from nst.errors import UserError, attempt, one_line
from nst.image import reading


def check(cfg: DictConfig) -> tuple[dict[str, Any], Config]:
    """Return a composed configuration as a resolved dictionary and as the schema's object.

    Raise UserError with all problems of its keys. If there are any, the files that the configuration names are read as
    well, so that both kinds of problems are reported together.
    """
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    try:
        found: Any = OmegaConf.to_container(own, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    raw: dict[str, Any] = renamed(found)
    config, lines = validated(raw)
    missing = [f"{key}: must be given" for key in sorted(OmegaConf.missing_keys(own))]
    if config is None or missing:
        raise UserError([*missing, *lines, *_file_problems(raw)])
    return raw, config


def _file_problems(raw: Mapping[str, Any]) -> list[str]:
    """Return the problems of the files that an invalid configuration names."""
    lines: list[str] = []
    limit = raw["max_pixels"] if isinstance(raw.get("max_pixels"), int) else reading.MAX_PIXELS
    for key, node in {"content": raw.get("content"), **styles_in(raw), "init": raw.get("init")}.items():
        for part, read in {"path": reading.read, "region": reading.read_mask, "mask": reading.read_mask}.items():
            path = node.get(part) if isinstance(node, Mapping) else None
            if isinstance(path, str) and path not in ("", "???") and not is_address(path):
                attempt(lines, partial(read, paths.of_user(path), key=f"{key}.{part}", max_pixels=limit))
    found = raw.get("encoder")
    encoder: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    weights = encoder.get("weights")
    if isinstance(weights, str) and weights not in ("", "auto", "random"):
        from nst.encoder import architecture as arch
        from nst.plan import network  # imports torch

        if encoder.get("architecture") in arch.known():
            attempt(lines, partial(network.check, paths.of_user(weights), encoder, raw.get("layers")))
    return lines
