"""Check a configuration without importing torch or downloading anything, so that most mistakes are reported quickly."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst.config.identity import DIGESTS
from nst.config.keys import renamed, with_named_loggers
from nst.config.mistakes import with_files
from nst.config.schema import Config, is_address, styles_in
from nst.config.source import read_note
from nst.config.validation import validated
from nst.errors import UserError, attempt, folder_problem, one_line, problem
from nst.files import paths
from nst.files.run_folder import RunFolder
from nst.files.weights import check_format
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
    config, wrong, unfit = validated(raw)
    missing = list(_missing(own))
    if config is None or missing:
        raise UserError([*missing, *with_files(wrong, cfg), *unfit, *_file_problems(raw)])
    return raw, config


def check_files(raw: Mapping[str, Any]) -> None:
    """Raise UserError for a file that a configuration names and that can't be used, with the problems of all its files.

    Only the beginning of each file is read: whether it is a picture, or weights.
    """
    lines: list[str] = []
    for file in _files(raw):
        attempt(lines, file.glance)
    if lines:
        raise UserError(_file_problems(raw))


def normalizing_pictures(wanted: str) -> list[Path]:
    """Return the files that ``encoder.normalize_on`` stands for. Raise UserError if it isn't a folder with files."""
    if wanted == "bundled":
        return [path for kind in ("content", "style") for path in paths.bundled_pictures(kind)]
    folder = paths.of_user(wanted).absolute()
    files = sorted(path for path in folder.glob("[!.]*") if path.is_file())
    if not files:
        why = folder_problem(folder) or "there are no files in this folder"
        raise UserError(
            problem("encoder.normalize_on", wanted, f"{why}; choices: null, bundled, or a folder of pictures")
        )
    return files


def _missing(own: DictConfig) -> Iterator[str]:
    """Yield one line for each key that has no value; for a rerun, with the file that the picture was made from."""
    keys = sorted(OmegaConf.missing_keys(own))
    picture = None if own.get("rerun") is None else paths.of_user(own.rerun)
    digests = read_note(picture, key="rerun").get(DIGESTS, {}) if picture is not None and keys else {}
    for key in keys:
        digest = digests.get(key, digests.get(key.rpartition(".")[0]))
        if picture is None or digest is None:
            yield f"{key}: must be given{f', such as {key}=painting.png' if key.endswith('.path') else ''}"
        else:
            file = _path_in(RunFolder(picture.parent).config, key) or "a file"
            yield f"{key}: must be given; the picture was made from {file} with the SHA-256 {digest}"


def _path_in(config: Path, key: str) -> str | None:
    """Return the path that a run's saved configuration has for a key; None if there is none."""
    try:
        return cast(str | None, OmegaConf.select(cast(DictConfig, OmegaConf.load(config)), key))
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):
        return None


class _File(NamedTuple):
    """A file that a configuration names.

    Both functions raise UserError if it can't be used: one looks at its beginning, the other reads all of it.
    """

    glance: Callable[[], object]
    read: Callable[[], object]


def _files(raw: Mapping[str, Any]) -> Iterator[_File]:
    """Yield the files that a configuration names, which may be invalid."""
    limit = raw["max_pixels"] if isinstance(raw.get("max_pixels"), int) else reading.MAX_PIXELS
    for key, node in {"content": raw.get("content"), **styles_in(raw), "init": raw.get("init")}.items():
        for part, read in {"path": reading.read, "region": reading.read_mask, "mask": reading.read_mask}.items():
            path = node.get(part) if isinstance(node, Mapping) else None
            if isinstance(path, str) and path not in ("", "???") and not is_address(path):
                file, whole = paths.of_user(path), f"{key}.{part}"
                yield _File(partial(reading.pixels, file, key=whole), partial(read, file, key=whole, max_pixels=limit))
    found = raw.get("encoder")
    encoder: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    weights, folder = encoder.get("weights"), encoder.get("normalize_on")
    if isinstance(weights, str) and weights not in ("", "auto", "random"):
        file = paths.of_user(weights)
        glance = partial(check_format, file, key="encoder.weights")
        yield _File(glance, partial(_read_weights, encoder, raw.get("layers"), file))
    if isinstance(folder, str) and folder:
        yield _File(partial(normalizing_pictures, folder), partial(normalizing_pictures, folder))


def _read_weights(encoder: Mapping[str, Any], layers: Any, path: Path) -> None:
    from nst.encoder import architecture as arch

    check_format(path, key="encoder.weights")
    if encoder.get("architecture") in arch.known():
        from nst.plan import network  # imports torch

        network.check(path, encoder, layers)


def _file_problems(raw: Mapping[str, Any]) -> list[str]:
    """Return the problems of the files that a configuration names."""
    lines: list[str] = []
    for file in _files(raw):
        attempt(lines, file.read)
    return lines
