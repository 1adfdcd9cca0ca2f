"""Check a configuration without importing torch or downloading anything, so that most mistakes are reported quickly."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst import paths
from nst.config.identity import DIGESTS
from nst.config.keys import renamed, with_named_loggers
from nst.config.schema import Config, is_address, styles_in
from nst.config.source import read_note
from nst.config.validation import validated
from nst.errors import UserError, attempt, one_line
from nst.files.run_folder import RunFolder
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
    raw: dict[str, Any] = renamed(with_named_loggers(found))
    config, lines = validated(raw)
    missing = list(_missing(own))
    if config is None or missing:
        raise UserError([*missing, *lines, *_file_problems(raw)])
    return raw, config


def _missing(own: DictConfig) -> Iterator[str]:
    """Yield one line for each key that has no value; for a rerun, with the file that the picture was made from."""
    keys = sorted(OmegaConf.missing_keys(own))
    picture = None if own.get("rerun") is None else paths.of_user(own.rerun)
    digests = read_note(picture, key="rerun").get(DIGESTS, {}) if picture is not None and keys else {}
    for key in keys:
        digest = digests.get(key, digests.get(key.rpartition(".")[0]))
        if picture is None or digest is None:
            yield f"{key}: must be given"
        else:
            file = _path_in(RunFolder(picture.parent).config, key) or "a file"
            yield f"{key}: must be given; the picture was made from {file} with the SHA-256 {digest}"


def _path_in(config: Path, key: str) -> str | None:
    """Return the path that a run's saved configuration has for a key; None if there is none."""
    try:
        return cast(str | None, OmegaConf.select(cast(DictConfig, OmegaConf.load(config)), key))
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):
        return None


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
