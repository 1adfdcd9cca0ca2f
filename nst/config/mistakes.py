"""Readable messages for Hydra's errors about a command line, with the key, the value and the choices."""

import argparse
import difflib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nst.config.hydra_edge import parse
from nst.config.schema import Config
from nst.config.source import PLUGIN_SETTINGS, Source, source_of
from nst.encoder import architecture as arch
from nst.errors import UserError, choices, one_line, problem
from nst.files import paths

#: Keys by their names in other implementations.
ELSEWHERE = {
    **dict.fromkeys(
        ("iterations", "iters", "num_iterations", "steps", "num_steps", "max_iter", "epochs"), "evaluations"
    ),
    **dict.fromkeys(("lr", "learning_rate"), "optimizer.lr"),
    **dict.fromkeys(("style_weight", "beta"), "weights.style"),
    **dict.fromkeys(("content_weight", "alpha"), "weights.content"),
    **dict.fromkeys(("tv_weight", "total_variation_weight"), "weights.tv"),
    **dict.fromkeys(("device", "gpu", "cuda", "accelerator"), "trainer.accelerator"),
    **dict.fromkeys(("image_size", "img_size", "resolution", "width"), "size"),
    **dict.fromkeys(("output_dir", "out", "output_path", "output_image", "save_dir"), "hydra.run.dir"),
    **dict.fromkeys(("style_image", "style_img", "style_path"), "style.path"),
    **dict.fromkeys(("content_image", "content_img", "content_path", "input", "image"), "content.path"),
    **dict.fromkeys(("preserve_color", "preserve_colors", "original_colors", "keep_colors"), "color=luminance"),
    **dict.fromkeys(("style_layers",), "layers.style"),
    **dict.fromkeys(("content_layers",), "layers.content"),
    **dict.fromkeys(("style_scale",), "style.scale"),
    **dict.fromkeys(("model", "network", "backbone", "vgg"), "encoder"),
    **dict.fromkeys(("loss",), "objective"),
}

#: Groups of which several options can be chosen at once.
SEVERAL = ("logger", "objective/style", "style/more")

#: Groups of Hydra's plugins.
_PLUGINS = ("hydra/launcher", "hydra/sweeper")


def check_groups(given: list[Override]) -> None:
    """Raise UserError for a group that is written as a key, and for values that can't be an option's name.

    Hydra would take the first for the value of the whole node, and would fail with a traceback for the second.
    """
    lines = [line for line in map(_dotted, given) if line is not None]
    for override in given:
        group = paths.configs() / override.key_or_group
        if not override.is_delete() and not override.is_sweep_override() and group.is_dir():
            value = override.value()
            if isinstance(value, list) and override.key_or_group not in SEVERAL:
                swept = f"{override.key_or_group}={','.join(map(str, value))}"
                further = "; for further styles: style/more=[…]" if override.key_or_group == "style" else ""
                lines.append(f"{override.input_line}: takes one option, or several with -m: {swept}{further}")
            elif not isinstance(value, str | list):
                text = str(override.input_line).partition("=")[2]
                why = _why_no_option(override.key_or_group, text, options_of(override.key_or_group))
                lines.append(problem(override.key_or_group, text, why))
    if lines:
        raise UserError(lines)


def _dotted(override: Override) -> str | None:
    """Return the problem of an override that chooses an option with a dot: ``objective.style=gram``; None otherwise."""
    key, text = str(override.key_or_group), str(override.input_line).partition("=")[2]
    group = key.replace(".", "/")
    known = "." in key and ((paths.configs() / group).is_dir() or group in _PLUGINS)
    if not known or override.is_delete() or text[:1] in ("", "{", "$") or text == "null":
        return None
    is_one = group in SEVERAL and not override.is_sweep_override() and not text.startswith("[")
    spelled = f"{group}=[{text}]" if is_one else f"{group}={text}"
    return f"{override.input_line}: {group} is a group, whose options are chosen with a slash: {shlex.quote(spelled)}"


def explain(error: Exception, arguments: argparse.Namespace) -> list[str]:
    """Return Hydra's error as readable lines: unreadable overrides, else unknown options and keys, else the error."""
    unreadable = list(_unreadable(arguments.overrides)) or list(_swept(arguments))
    if unreadable:
        return unreadable
    try:
        source = source_of(arguments)
        with source.options() as options:
            lines = list(_override_problems(options, source))
    except (UserError, HydraException, OmegaConfBaseException):
        lines = []
    chosen = re.match(r"Multiple values for (\S+)\. To override a value use 'override \S+: (\S+)'", str(error))
    if chosen is not None:
        group, option = chosen.groups()
        several = f"; several: '{group}=[NAME,{option}]'" if group in SEVERAL else ""
        lines.append(f"+{group}={option}: the defaults have this group; leave out the +: {group}={option}{several}")
    return lines or [one_line(error)]


def with_files(lines: list[str], cfg: DictConfig) -> list[str]:
    """Return lines about keys of a composed configuration, those about a value with the YAML file that sets it.

    Keys that the user's overrides set are left as they are. The configuration of a sweep's run has no node ``hydra``,
    which Hydra holds itself; one that was composed in another way has none at all.
    """
    if "hydra" not in cfg and not HydraConfig.initialized():
        return lines
    hydra = cfg.hydra if "hydra" in cfg else HydraConfig.get()
    # Of a group with several options, Hydra has no choice.
    values = {str(each.key_or_group): each.value() for each in parse(list(hydra.overrides.task))}
    several = {key: value for key, value in values.items() if isinstance(value, list) and key in SEVERAL}
    chosen = {**hydra.runtime.choices, **several}
    given = [key for key in values if key not in chosen]
    files = list(_chosen_files(chosen, hydra))
    told = []
    for line in lines:
        valued = re.match(r"([^=:]+)=", line)
        key = valued[1] if valued is not None else ""
        found = [] if not key or any(_within(key, each) or _within(each, key) for each in given) else files
        setting = [path for path, keys in found if any(_within(each, key) for each in keys)]
        told.append(f"{line} (set by {setting[-1]})" if setting else line)
    return told


def _within(key: str, above: str) -> bool:
    return f"{key}.".startswith(f"{above}.")


def _chosen_files(chosen: Mapping[str, Any], hydra: Any) -> Iterator[tuple[Path, set[str]]]:
    """Yield the YAML files of the chosen options, in the order of the defaults, and the keys that each sets."""
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    options = [(group, name) for group, names in chosen.items() if not group.startswith("hydra/")
               for name in (names if isinstance(names, list) else [names])]  # fmt: skip
    for group, name in [("", hydra.job.config_name), *reversed(options)]:
        for folder in folders:
            path = folder / group / f"{name}.yaml"
            if path.is_file():
                package = paths.package(path, group)
                prefix = f"{package}." if package else ""
                yield path, {package, *(f"{prefix}{key}" for key in _keys_in(path))}


def _unreadable(overrides: list[str]) -> Iterator[str]:
    apart = next((number for number, text in enumerate(overrides) if text.startswith("=")), None)
    if apart is not None:
        written_apart = " ".join(overrides[max(0, apart - 1) : apart + 2])
        yield f"{written_apart}: an override has the form KEY=VALUE, without spaces around the equals sign"
        return
    for before, text, following in zip(["", *overrides[:-1]], overrides, [*overrides[1:], ""], strict=True):
        try:
            parse([text])
        except HydraException as error:
            if text in Config.model_fields and following and "=" not in following:
                yield f"{text} {following}: an override has the form KEY=VALUE: {text}={following}"
                return
            if "=" not in text:
                yield _no_override(text, before)
                continue
            if text.endswith(",") and following and "=" not in following:
                yield f"{text} {following}: several values have no spaces after the commas: {text}{following}"
                return
            hint = f"quote a value with special characters inside the shell's quotes: \"{text.partition('=')[0]}='…'\""
            yield f"{text}: this override can't be read ({str(error).splitlines()[0]}); {hint}"


def _no_override(text: str, before: str) -> str:
    """Return one line about a word without a key, which follows another word."""
    form = "an override has the form KEY=VALUE"
    if "=" in before and re.fullmatch(r"[-+.e\d]+", text):
        return f"{before} {text}: {form}; for a sweep over values: -m {before},{text}"
    if re.split(r"[./]", text)[0] in Config.model_fields and not paths.of_user(text).exists():
        return f"{text}: {form}: {text}=VALUE"
    form = f"{form}, such as content.path={text} or style.path={text}"
    return f"{text}: {form}; a value with spaces needs quotes: \"content.path='my photo.jpg'\""


def _swept(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield one line for each override with several values, if they are not for a sweep."""
    if arguments.multirun:
        return
    for text, override in zip(arguments.overrides, parse(arguments.overrides), strict=True):
        if override.is_sweep_override():
            key, _, value = text.partition("=")
            numbers = all(re.fullmatch(r"[-+.\de]+", each) for each in value.split(","))
            is_list = "" if numbers else f"; a list needs brackets: '{key}=[{value}]'"
            yield f"{text}: several values are a sweep and need -m: python -m nst.train -m {text}{is_list}"


def _override_problems(loader: ConfigLoader, source: Source) -> Iterator[str]:
    texts = source.overrides
    refused: list[str] = []
    right, values = [], []
    search = [text for text in texts if text.startswith("hydra.searchpath=")]  # groups and options are there, too
    right += search
    for text, override in zip(texts, parse(texts), strict=True):
        options = loader.get_group_options(override.key_or_group, config_name=source.name, overrides=search)
        if not options:
            values.append(override)
            continue
        wrong = [value for value in _values(override) if value not in (*options, "null")]
        if wrong:
            refused += wrong
            for value in wrong:
                yield problem(override.key_or_group, value, _why_no_option(override.key_or_group, value, options))
        elif not override.is_sweep_override() and not set(_values(override)) & set(refused):  # nor its settings
            right.append(text)
    cfg = replace(source, overrides=right).compose().cfg
    known = list(_keys(cfg))
    groups = [group for group in loader.list_groups("") if group != "hydra"]
    for override in values:
        key = override.key_or_group
        if not override.is_add() and not override.is_force_add() and key not in known:
            roots = [root for root in known if "." not in root and root not in (*groups, "hydra")]
            yield f"{override.input_line}: there is no key {key}; {_hint(override, known, [*groups, *roots])}"


def _hint(override: Override, known: list[str], roots: list[str]) -> str:
    """Return what to type instead of an override whose key doesn't exist."""
    key, text = str(override.key_or_group), str(override.input_line)
    parent = key.rpartition(".")[0]
    if key in ELSEWHERE:
        return f"did you mean {ELSEWHERE[key]}?"
    if parent in ("weights.style_layers", "weights.content_layers"):
        return f"add the factor of a layer with a +: +{text}"
    more = parent.removeprefix("style.more.")
    if more != parent and (paths.configs() / "style" / "more" / f"{more}.yaml").is_file():
        return f"choose this style as well: 'style/more=[{more}]'"
    group, _, own = key.partition(".")
    having = [option for option in options_of(group) if own in _keys_in(paths.configs() / group / f"{option}.yaml")]
    if having:
        return f"these options of {group} have it: {', '.join(having)}; choose one: {group}={having[0]} {text}"
    near = difflib.get_close_matches(key, [name for name in known if "._" not in name], n=3)
    return f"did you mean {', '.join(near)}?" if near else f"groups and keys: {', '.join(roots)}"


def _why_no_option(group: str, value: str, options: list[str]) -> str:
    if group in _PLUGINS and (paths.configs() / PLUGIN_SETTINGS / f"{value}.yaml").is_file():
        return f"needs an extra: pip install 'nst[{value.partition('_')[0]}]'"
    if group in ("experiment", "pair") and value == "null":
        return f"this is the default, which can't be given; leave out {group}"
    if group in ("content", "style") and ("." in value or "/" in value):
        return f"there is no such option; to use a file, give its path: {group}.path={value}"
    if group == "layers" and value in arch.layer_names("vgg19"):
        return f"there is no such option; give layers as a list: 'layers.style=[{value}]'"
    if group in ("objective", "objective/style") and value in {"gram", *options_of("objective/style")} - set(options):
        return f"there is no such option; choose a style term with 'objective/style=[{value}]'"
    if group == "weights" and _is_number(value):
        return f"there is no such option; to set the style weight: weights.style={value}"
    return f"there is no such option; {choices(value, options)}"


def options_of(group: str) -> list[str]:
    """Return the names of a group's options."""
    return sorted(path.stem for path in (paths.configs() / group).glob("*.yaml"))


def _keys_in(path: Path) -> set[str]:
    """Return the keys of an option's file."""
    node = OmegaConf.load(path)
    return set(_keys(node)) if isinstance(node, DictConfig) else set()


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(value) for value in override.sweep_string_iterator()]
    value = override.value()
    return [str(item) for item in value] if isinstance(value, list) else ["null" if value is None else str(value)]


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key):
            continue
        if isinstance(node[key], DictConfig):
            yield from _keys(node[key], f"{prefix}{key}.")
