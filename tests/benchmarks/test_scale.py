"""``benchmarks.scale``: growth with the picture and with the processes, and the model of several processes."""

import json
from pathlib import Path

import pytest

from benchmarks import scale, throughput
from benchmarks.against_baseline import ours
from nst.plan.planning import make_plan

RUN = ["encoder=slim", "threads=1", "precision=32"]


def test_a_size_is_measured_once_with_its_forecast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    results = tmp_path / "scale.json"
    words = ["sizes", "--megapixels", "0.012", "--results", str(results), "--overrides", "threads=1", "precision=32"]
    assert scale.main(words) == 0
    [record] = json.loads(results.read_text())
    values = record["values"]
    assert record["key"]["size"] == "96x128"
    assert values["bytes"] == pytest.approx(values["forecast"], rel=0.25)
    assert values["seconds"] > 0
    assert values["iteration"] > 0
    assert scale.main(words) == 0
    assert json.loads(results.read_text()) == [record], "nothing is measured again"
    assert f"{values['bytes'] / 1e9:.3g}" in capsys.readouterr().out
    assert scale.main(["processes", "--overrides", "sise=3"]) == 2


def test_the_model_of_several_processes() -> None:
    assert scale.seconds(alone=8, work=0.25, slowdown=2, exchange=1) == 5
    assert scale.exchange_of(100, 1, 10) == 0
    assert scale.exchange_of(100, 4, 10) == pytest.approx((1.5 + 1) * 10)
    layout = make_plan(ours.compose([*RUN, "size=512"])).layout
    height, width = layout.shape
    assert scale.exchanged(layout.shape) == 12 * height * width
    assert scale.work(layout, None, 1) == height * width
    shares = [scale.work(layout, 128, number) for number in (1, 2, 4)]
    assert shares[0] > 1.5 * height * width, "all tiles but one are read a second time, with their halos"
    assert shares[0] > 1.9 * shares[1] > 1.9 * 1.8 * shares[2]


def test_a_prediction_fits_or_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = ["predict", "--megapixels", "4", "--gpus", "1", "2", "--gigabytes", "1.2", "--overrides", "encoder=slim"]
    assert scale.main(words) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [(row[2].strip(), row[5].strip()) for row in rows] == [("1", "no"), ("2", "yes")]


def test_the_throughput_of_a_sweep_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--points", "2", "--pairs", "1", "--size", "32", "--evaluations", "2"]
    throughput.main([*small, "--overrides", "logger=none", "encoder.weights=random"])
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in told] == ["one at a time", "2 at a time", "ratio"]


@pytest.mark.soak
def test_the_model_foretells_runs_with_several_processes(tmp_path: Path) -> None:
    """Within a fifth, in the median of three rounds, on a machine that does nothing else."""
    words = ["processes", "--results", str(tmp_path / "scale.json")]
    assert scale.main(words) == 0
    found = scale.compared(json.loads((tmp_path / "scale.json").read_text()))
    assert set(found) == {"1", "2", "4"}
    assert all(0.8 < ratio < 1.25 for *_, ratio in found.values())
