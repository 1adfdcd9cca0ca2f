"""Tables in Markdown and plots of what was measured."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.against_baseline import evaluation, memory, plots, quality
from benchmarks.against_baseline.results import Record, Results, described
from nst.errors import UserError, problem
from nst.files.atomic import write_text


def write(results: Results, folder: Path) -> None:
    """Writes ``report.md`` and a plot for each part into a folder. Raises UserError where there are no results."""
    if not results.records:
        raise UserError(problem("--results", results.path, "there are no measurements in this file"))
    parts = {
        "evaluation": ("Seconds of one evaluation", _evaluation, plots.evaluation),
        "memory": ("Peak memory of one evaluation", _memory, plots.memory),
        "quality": ("Seconds until as good as the baseline's best", _quality, plots.quality),
    }
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Ours against the baseline's recipe"]
    for part, (title, table, plot) in parts.items():
        records = results.of(part)
        if records:
            plot(results, folder / f"{part}.png")
            lines += ["", f"## {title}", "", *made_with(records), "", *table(records), "", f"![{title}]({part}.png)"]
    write_text(folder / "report.md", "\n".join(lines) + "\n")
    print(f"The report is at {folder / 'report.md'}")


def made_with(records: Sequence[Record]) -> list[str]:
    """Command, machine and date of a table."""
    lines = []
    for record in records:
        machine = record["machine"]
        on = f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, torch {machine['torch']}"
        lines.append(
            f"- `{record['command']}`  \n  {on}, device {machine['device']}, {record['date'][:10]}, "
            f"commit {machine['git_commit']}"
        )
    return list(dict.fromkeys(lines))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def _evaluation(records: Sequence[Record]) -> list[str]:
    head = [
        "size", "device", "ours", "baseline, s", "ours, s", "times as fast (range; pairs)",
        "baseline, evaluations/s", "ours, evaluations/s",
        "baseline, of the device's rate", "ours, of the device's rate",
    ]  # fmt: skip
    rows = []
    for record in records:
        key, found = record["key"], evaluation.summary(record["values"])
        pairs = len(record["values"]["ours"])
        rows.append([
            key["size"], key["device"], f"`{described(key)}`",
            f"{found['baseline']:.4g}", f"{found['ours']:.4g}",
            f"{found['ratio']:.2f} ({found['least']:.2f} to {found['most']:.2f}; {pairs})",
            f"{1 / found['baseline']:.3g}", f"{1 / found['ours']:.3g}",
            f"{found['baseline_share']:.0%}", f"{found['our_share']:.0%}",
        ])  # fmt: skip
    return _table(head, rows)


def _memory(records: Sequence[Record]) -> list[str]:
    rows = []
    for record in records:
        key, values = record["key"], record["values"]
        if "failed" in values:
            told = ["did not fit", "", ""]
        else:
            told = [f"{values['bytes'] / 1e9:.2f}", f"{values['imports'] / 1e9:.2f}", f"{values['seconds']:.3g}"]
        rows.append([key["size"], key["device"], f"`{memory.label(key)}`", *told])
    head = ["size", "device", "side", "peak, GB", "of which before anything was made, GB", "s"]
    return [*_table(head, rows), "", *(f"- {line}" for line in memory.slopes(records))]


def _quality(records: Sequence[Record]) -> list[str]:
    head = [
        "pair", "start", "size", "device", "ours", "baseline's best loss", "at evaluation", "baseline, s to its best",
        "baseline, s for all", "ours, s until as good", "ours, evaluations", "times as soon",
    ]  # fmt: skip
    rows = []
    for record in records:
        key, theirs, our = record["key"], record["values"]["baseline"], record["values"]["ours"]
        reached = our["reached"]
        never = f"never within {key['evaluations']}"
        rows.append([
            key["pair"], key["start"], f"{key['size']} px", key["device"], f"`{described(key)}`",
            f"{theirs['loss']:.5g}", theirs["evaluations"], f"{theirs['seconds']:.4g}",
            f"{theirs['seconds_of_all']:.4g}", f"{reached[1]:.4g}" if reached else never, reached[0] if reached else "",
            f"{quality.ratio(record['values']):.2f}" if reached else "",
        ])  # fmt: skip
    lines = [f"- {name}: {quality.median(group)}" for name, group in quality.by_contest(records).items()]
    return [*_table(head, rows), "", *lines]
