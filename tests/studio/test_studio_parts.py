"""The studio without a browser: its form, uploads, queue, command line, and what it refuses."""

import asyncio
import base64
import http.client
import importlib.util
import json
import os
import platform
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from nst.config.mistakes import options_of
from nst.config.schema import Config
from nst.errors import UserError
from nst.files.atomic import sha256
from nst.files.run_folder import RunFolder
from nst.live.progress import progress
from nst.live.view import run_html
from nst.metrics.names import full_name
from nst.studio import __main__ as command_line
from nst.studio import form, gallery, uploads
from nst.studio.estimate import Estimate, Speeds
from nst.studio.form import Form, StyleChoice, knobs_of
from nst.studio.queue import Job, Queue, _write
from nst.studio.uploads import Uploads
from tests.conftest import Command
from tests.helpers.run_folders import input_of, make_run
from tests.helpers.studio import SLOWNESS, Studio, until

needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")


def test_the_form_gives_only_what_differs_from_its_preset(tmp_path: Path) -> None:
    knobs = knobs_of("preview")
    styles = [StyleChoice("picasso", 0.5), StyleChoice(tmp_path / "a b.png", 2.0, tmp_path / "mask.png")]
    words = Form("ballerina", styles, "preview", knobs, "seed=3 'name=a b'").words()
    assert words == [
        "experiment=preview", "content=ballerina", "style=picasso", "style/more=[second]",
        f"style.more.second.path={tmp_path}/a b.png", "style.weight=0.5", "style.more.second.weight=2",
        f"style.more.second.region={tmp_path}/mask.png", "seed=3", "name=a b",
    ]  # fmt: skip
    changed = Form("tubingen", styles[:1], None, knobs)
    assert [*changed.words()][-2:] == ["size=192", "evaluations=150"]
    for key in ("hydra.run.dir", "hydra/launcher", "resume"):
        with pytest.raises(UserError, match=f"{key}: the studio sets this key"):
            Form("tubingen", styles, None, knobs, f"{key}=x").words()
    assert Form(None, [], None, knobs_of(None), "rerun=x.png").words() == ["rerun=x.png"]
    with pytest.raises(UserError, match="size: a control and the further overrides both set this key; remove it"):
        Form("tubingen", styles[:1], None, knobs, "size=64").words()
    with pytest.raises(UserError, match="quotes come in pairs"):
        Form("tubingen", styles, None, knobs, "name='a").words()


def test_a_missing_or_refused_picture_is_a_mistake_of_the_form() -> None:
    """It leaves no command with an earlier picture."""
    style, knobs = [StyleChoice("picasso")], knobs_of(None)
    with pytest.raises(UserError, match=r"^content: choose a content picture, or name one"):
        Form(None, style, None, knobs).words()
    with pytest.raises(UserError, match=r"^style: choose a style picture, or name one"):
        Form("tubingen", [], None, knobs).words()
    refused = UserError("content.path=notes.pdf: this file is not a picture")
    with pytest.raises(UserError) as raised:
        Form(refused, [*style, StyleChoice(UserError("style.path=x: damaged"))], None, knobs).words()
    assert raised.value.problems == [*refused.problems, "style.path=x: damaged"]
    for more in ("content.path=x.png", "pair=tubingen-scream", "rerun=x.png"):
        assert Form(None, style, None, knobs, more).words() == ["style=picasso", more]


def test_presets_make_one_picture_and_say_what_they_do() -> None:
    names = [preset.name for preset in form.presets()]
    assert {None, "nnst", "strotss", "preview", "texture_synthesis"} <= set(names)
    assert not {"seed_lbfgs", "pooling", "continued"} & set(names)
    assert all(preset.about and "python -m" not in preset.about for preset in form.presets())
    assert any(line.startswith("size=0") for line in form.check(["size=0"]))
    assert not form.check(["experiment=nnst", "style=picasso"])


#: Names of files, and what is kept of them.
NAMES = {
    "my holiday, 2024 (1).png": "my_holiday-{}.png",
    "U\N{COMBINING DIAERESIS}nder $(rm).JPG": "Ünder_rm-{}.JPG",
    "写真.webp": "写真-{}.webp",
    "../../x.png": "x-{}.png",
    "C:\\con.png": "C_con-{}.png",
}


def test_uploads_are_checked_bounded_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Uploads(tmp_path / "kept")
    Image.new("RGB", (30, 20), "red").save(tmp_path / "..%2f..%2fx.png")
    file = kept.keep(tmp_path / "..%2f..%2fx.png", key="content.path")
    assert file.parent == kept.folder
    assert re.fullmatch(r"2f_2fx-[0-9a-f]{8}\.png", file.name)
    for name, expected in NAMES.items():
        found = kept.keep(file, key="content.path", name=name)
        assert (found.parent, found.name) == (kept.folder, expected.format(sha256(file)[:8]))
        assert len(found.stem) <= 20
    assert len(kept.keep(file, key="content.path", name="'; --.png").stem) == 20, "a digest alone"
    Image.new("RGB", (30, 20), "blue").save(tmp_path / "x.png")
    other = kept.keep(tmp_path / "x.png", key="content.path", name="../../x.png")
    assert other.read_bytes() == (tmp_path / "x.png").read_bytes() != file.read_bytes()
    assert other.name.startswith("x-")
    assert other.name != f"x-{sha256(file)[:8]}.png", "another picture with the same name"
    (tmp_path / "page.png").write_text("<script>alert(1)</script>")
    with pytest.raises(UserError, match=r"content\.path=.*this file is not a picture"):
        kept.keep(tmp_path / "page.png", key="content.path")
    dropped = {"path": str(tmp_path / "page.png"), "orig_name": "<my page>.png"}
    with pytest.raises(UserError, match=r"^content\.path=<my page>\.png: this file is not .*; formats: AVIF, BMP"):
        kept.keep_dropped(dropped, key="content.path")
    (tmp_path / "bomb.png").write_bytes(bomb())
    with pytest.raises(UserError, match="30000 x 30000"):
        kept.keep(tmp_path / "bomb.png", key="content.path")
    monkeypatch.setattr(uploads, "MOST_BYTES", 10)
    with pytest.raises(UserError, match="MB"):
        kept.keep(file, key="content.path")
    monkeypatch.setattr(uploads, "MOST_BYTES", 10**6)
    monkeypatch.setattr(uploads, "MOST_FILES", 3)
    for color in ("blue", "green", "white", "black"):
        Image.new("RGB", (30, 20), color).save(tmp_path / "x.png")
        kept.keep(tmp_path / "x.png", key="content.path")
    assert len(list(kept.folder.iterdir())) == 3
    os.utime(next(kept.folder.iterdir()), (0, 0))
    kept.forget()
    assert len(list(kept.folder.iterdir())) == 2


def bomb() -> bytes:
    """A PNG of 30000 × 30000 px in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


def test_the_queue_runs_one_after_another_and_keeps_what_fails(tmp_path: Path, small: list[str]) -> None:
    queue = Queue(tmp_path / "outputs")
    queue.start()
    try:
        good = queue.add([*small, "evaluations=4"])
        bad = queue.add([*small, "optimizer.lr=-1"])
        other = queue.add([*small, "evaluations=5"])
        assert len({job.folder for job in (good, bad, other)}) == 3
        until(lambda: len(queue.jobs()) == 1 and not queue.busy(), seconds=90, what="end of the queue")
        [left] = queue.jobs()
        assert left.file == bad.file
        assert left.error is not None
        assert left.error.startswith("error: optimizer.lr=-1: ")
        assert [json.loads((job.folder / "summary.json").read_text())["evaluations"] for job in (good, other)] == [4, 5]
        queue.stop(left)
        assert queue.jobs() == []
        assert not bad.folder.exists(), "a folder without a run"
    finally:
        queue.close()


@needs_gradio
@pytest.mark.parametrize("begun", [False, True])
def test_a_run_that_is_stopped_before_its_first_evaluation_has_not_failed(tmp_path: Path, begun: bool) -> None:
    """Its process ends at once, before it has handlers of signals: without a summary, or with one that says running."""
    import gradio as gr

    from nst.studio.tabs.watch import Watch

    queue = Queue(tmp_path / "outputs")
    with gr.Blocks():
        watch = Watch(queue)
    queue.start()
    try:
        job = queue.add(["size=64"])
        until(lambda: queue.busy(), what="process")
        if begun:
            (job.folder / "config.yaml").touch()
            (job.folder / "summary.json").write_text('{"status": "running", "evaluations": 0}')
        watch._stop(job.file, None)
        until(lambda: not queue.jobs(), what="end")
        text = str(watch.show()[watch.outputs.index(watch.run)])
        assert "Stopped before the first evaluation, so there is no picture" in text
        assert "error" not in text
        assert job.folder.is_dir() == begun
    finally:
        for each in queue.jobs():
            queue.stop(each)
        queue.close()


@needs_gradio
@pytest.mark.parametrize(
    ("told", "writer", "changes", "text", "buttons"),
    [
        ("running", "own", {}, "Running", ["Pause", "Stop and keep the picture"]),
        ("running", "own", {"stopped": True}, "Stopping; the picture", []),
        ("interrupted", "own", {"stopped": True}, "Stopping; the picture", []),
        ("interrupted", "other", {}, "Starting", ["Stop and keep the picture"]),
        ("completed", "own", {}, "Finishing", []),
        ("completed", "own", {}, "Measuring the picture by alexnet, for ", []),
        ("interrupted", "other", {"process": None}, "Starting", ["Stop and keep the picture"]),
        ("interrupted", "own", {"process": (1, 0.0)}, "Finishing", []),
        ("interrupted", "own", None, "Stopped", ["Continue"]),
        ("completed", "own", None, "Completed", ["Continue"]),
    ],
)
def test_the_status_and_the_buttons_agree(
    tmp_path: Path, told: str, writer: str, changes: dict[str, Any] | None, text: str, buttons: list[str]
) -> None:
    """After Stop, the process still saves; after Continue, the summary still says how the run ended before.

    Until a run that is continued has new numbers, those of its earlier session aren't shown.
    """
    import gradio as gr

    from nst.studio.tabs.look import Look
    from nst.studio.tabs.paint import Paint
    from nst.studio.tabs.watch import Watch

    queue = Queue(tmp_path / "outputs")
    queue.folder.mkdir(parents=True)
    me = psutil.Process()
    began = datetime.fromtimestamp(me.create_time() + 2, UTC).isoformat()
    process = {"id": me.pid if writer == "own" else 1, "host": platform.node()}
    made = {"scales": [{"width": 64, "height": 48, "end": 30}], "process": process, "started": began}
    wanted = ["slim", "alexnet"] if text.startswith("Measuring") else None
    run = make_run(
        queue.outputs / "run", status=told, made=made, changes={"metrics": wanted}, metrics={full_name("slim"): {}}
    )
    with gr.Blocks():
        watch = Watch(queue)
        look = Look(Paint(queue, Speeds(queue.outputs)), gr.Tabs())
    if changes is not None:
        job = Job(queue.folder / "000001.json", [], run, resumes=True, process=(me.pid, me.create_time()))
        _write(replace(job, **changes))
    shown = dict(zip(watch.outputs, watch.show(), strict=True))
    assert f"<dd>{text}" in str(shown[watch.run])
    assert ("Loss" in str(shown[watch.run])) == (text != "Starting")
    [entry] = gallery.entries(queue.outputs)
    assert (f"<dd>{text}" in gallery.about(entry, look._doing(entry))) or not wanted
    pressable = [each for each in (watch.pause, watch.stop, watch.resume) if shown[each].interactive]  # type: ignore[attr-defined]
    assert [each.value for each in pressable] == buttons


@needs_gradio
def test_a_picture_that_is_replaced_while_it_is_sent_is_read_again(tmp_path: Path) -> None:
    from fastapi.responses import FileResponse

    from nst.studio.server import Guard

    file = tmp_path / "picture.webp"
    file.write_bytes(b"old")
    replaced = iter([b"a longer one", b"short"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer = FileResponse(file, stat_result=file.stat())
        file.write_bytes(next(replaced, file.read_bytes()))
        await answer(scope, receive, send)

    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    guard = Guard(app, hosts=None, password=None, full=lambda: False)
    scope = {"type": "http", "method": "GET", "path": f"/gradio_api/file={file}", "headers": []}
    asyncio.run(guard(scope, receive, send))
    assert (b"content-length", b"5") in sent[0]["headers"]
    assert b"".join(message.get("body", b"") for message in sent) == b"short"


@needs_gradio
@pytest.mark.parametrize("known", [False, True])
def test_a_file_that_is_removed_while_it_is_sent_is_not_there(tmp_path: Path, known: bool) -> None:
    from fastapi.responses import FileResponse

    from nst.studio.server import Guard

    file = tmp_path / "picture.webp"
    file.write_bytes(b"old")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer = FileResponse(file, stat_result=file.stat() if known else None)
        file.unlink()
        await answer(scope, receive, send)

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("a mistake in the code")

    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/runs/x/result.png", "headers": []}
    asyncio.run(Guard(app, hosts=None, password=None, full=lambda: False)(scope, receive, send))
    assert [message["status"] for message in sent if "status" in message] == [404]
    with pytest.raises(RuntimeError, match="a mistake"):
        asyncio.run(Guard(broken, hosts=None, password=None, full=lambda: False)(scope, receive, send))


@needs_gradio
def test_the_evaluations_to_continue_to_are_those_of_the_run_that_is_shown(tmp_path: Path) -> None:
    import gradio as gr

    from nst.studio.tabs.watch import Watch

    queue = Queue(tmp_path / "outputs")
    queue.folder.mkdir(parents=True)
    with gr.Blocks():
        watch = Watch(queue)
    field, budget = watch.outputs.index(watch.evaluations), watch.outputs.index(watch.budget)
    for name, end in (("one", 300), ("two", 20)):
        scales = [{"width": 64, "height": 48, "end": end}]
        make_run(queue.outputs / name, made={"scales": scales})
    known: Any = None
    values = []
    for name in ("one", "one", "two"):
        watch._last = queue.outputs / name
        shown = watch.show(known)
        known = shown[budget]
        values.append(shown[field])
    assert values == [300, gr.skip(), 20], "what was typed in for the same run stays"
    for typed in (20, 19, None):
        with pytest.raises(gr.Error, match="the run is complete; more than 20 continue it"):
            watch._resume(typed, known)
    queue.add(["size=64"])
    assert watch.show(known)[field] is None, "it isn't known yet"


def test_the_measures_of_a_run_are_explained(tmp_path: Path) -> None:
    measures = {"oxford_vgg19-512px-v1": {"frechet": 1.5, "gram": 0.5}, "slim-512px-v1": {"gram": 0.25}}
    measures["512px-v1"] = {"ssim": 0.25}
    make_run(tmp_path / "run", metrics=measures)
    entry = gallery.entry_of(tmp_path, "run")
    assert entry is not None
    told = gallery.about(entry)
    assert '<dt title="distance from the style: Fréchet' in told
    assert re.findall(r"<dt title[^>]*>([^<]*)</dt><dd>([^<]*)</dd>", told.replace("<wbr>", "")) == [
        ("ssim", "0.25"), ("gram (oxford_vgg19-512px-v1)", "0.5"), ("gram (slim-512px-v1)", "0.25"), ("frechet", "1.5"),
    ]  # fmt: skip
    assert "<dt>Order</dt><dd>lower is better: gram, frechet; higher is better: ssim</dd>" in told


def test_a_run_that_has_ended_has_the_losses_of_its_picture(tmp_path: Path) -> None:
    """Its last evaluation has another total, 0.5 * (1 + 50 / 30)."""
    for status, total in (("completed", 0.5), ("running", 1.333)):
        make_run(tmp_path / status, status=status)
        assert f"<dt>Loss: total</dt><dd>{total}</dd>" in run_html(progress(tmp_path / status))


def test_an_upload_moves_with_its_run(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "outputs")
    queue.folder.mkdir(parents=True)
    Image.new("RGB", (30, 20), "red").save(tmp_path / "x.png")
    Image.new("RGB", (30, 20), "blue").save(tmp_path / "y.png")
    file = queue.uploads.keep(tmp_path / "x.png", key="content.path")
    other = queue.uploads.keep(tmp_path / "y.png", key="style.path", name="x.png")
    job = queue.add([f"content.path={file}", f"style.path={other}", "size=64"])
    kept = job.folder / "inputs"
    assert job.words == [f"content.path={kept}/x.png", f"style.path={kept}/{other.name}", "size=64"]
    assert (kept / "x.png").read_bytes() == file.read_bytes()
    assert (kept / other.name).read_bytes() == other.read_bytes()


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command_line.main([]) == 2
    assert capsys.readouterr().err == "error: the studio needs an extra: pip install 'nst[studio]'\n"


def test_captions_of_runs_begin_with_what_differs(tmp_path: Path) -> None:
    runs = {
        "a": ["size=64", "style=scream"],
        "b": ["size=64", "style=scream"],
        "c": ["size=64", "style=scream", f"content.path={tmp_path}/c/inputs/my dog.png"],
        "d": ["size=64"],
    }
    for name, words in runs.items():
        status = "interrupted" if name == "c" else "completed"
        words = [*words, f"style.path={tmp_path}/{name}/inputs/copied.png"]
        make_run(tmp_path / name, status=status, made={"overrides": words, "name": "tubingen-scream"})
    found = sorted(gallery.entries(tmp_path), key=lambda entry: entry.name)
    assert gallery.captions(found) == [
        "a style=scream", "b style=scream", "stopped: style=scream content.path=my dog.png", "tubingen-scream",
    ]  # fmt: skip
    assert gallery.captions(found[:1]) == ["tubingen-scream"]
    for word in ("interrupted", "stopped"):
        assert [entry.name for entry in gallery.entries(tmp_path, f"{word} size=64")] == ["c"]


def test_a_run_whose_process_is_gone_is_stopped(tmp_path: Path) -> None:
    """And the results of its earlier session aren't those of the picture that is shown."""
    gone = {"process": {"host": platform.node(), "id": 2**22 + 1}, "started": "2026-01-01T00:00:00+00:00"}
    make_run(tmp_path / "run", status="running", made=gone, metrics={"slim-512px-v1": {"gram": 0.25}})
    [entry] = gallery.entries(tmp_path)
    assert gallery.captions([entry]) == ["stopped: run"]
    told = gallery.about(entry)
    assert "The process ended during the run" in told
    assert not re.findall(r"Loss|Took|gram", told)


def test_stand_ins_are_marked(tmp_path: Path) -> None:
    assets = {"style": input_of("picasso", "stand-in")}
    make_run(tmp_path / "run", assets=assets)
    [entry] = gallery.entries(tmp_path)
    for text in (gallery.about(entry), run_html(progress(entry.folder))):
        assert "<dt>Stand-in</dt><dd>style (the original couldn&#x27;t be downloaded)</dd>" in text
    make_run(tmp_path / "own", assets={"style": input_of("picasso", "path")})
    assert "Stand-in" not in run_html(progress(tmp_path / "own"))


def test_a_run_that_is_resumed_is_the_newest(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "outputs")
    queue.folder.mkdir(parents=True)
    for number, name in enumerate(("one", "two")):
        folder = make_run(queue.outputs / name, made={"started": f"2026-01-0{number + 1}T00:00:00+00:00"})
        os.utime(folder / "summary.json", (number, number))
    assert [entry.name for entry in gallery.entries(queue.outputs)] == ["two", "one"]
    queue.resume(queue.outputs / "one")
    assert [entry.name for entry in gallery.entries(queue.outputs)] == ["one", "two"]


@needs_gradio
def test_start_waits_until_a_mistake_is_corrected(tmp_path: Path) -> None:
    import gradio as gr

    from nst.studio.tabs.paint import Paint

    with gr.Blocks():
        paint = Paint(Queue(tmp_path), Speeds(tmp_path))
    values = [each.value for each in paint.inputs]
    for more, starts, says in (
        ("resume=x", False, "Correct this before you start:.*resume: the studio sets"),
        ("nonsense=3", False, "Correct this before you start:.*there is no key nonsense"),
        ("", True, "Estimating"),
    ):
        said, start, command = paint._tell("", *values[:-1], more)
        assert start.interactive is starts
        assert re.search(says, said)
    mistake = [*values[:-1], "style.region=/no/file.png"]
    estimate = paint._estimate(command, *mistake)
    said, start = paint._tell_estimate(estimate, command)
    assert "At present, this run would fail:" in said
    assert start.value == "Start anyway"
    assert paint._tell_estimate(estimate, "another command") == (gr.skip(), gr.skip())


def test_the_time_of_a_run_is_estimated_from_the_scales_of_an_earlier_one(
    inside: Command, small: list[str], tmp_path: Path
) -> None:
    """An evaluation takes a constant time and one that grows with the pixels, as its last two scales tell."""
    scales = ["schedule=pyramid", "schedule.sizes=[32]"]
    assert inside(*small, *scales, "size=64", "hydra.run.dir=outputs/run").returncode == 0
    folder = RunFolder(tmp_path / "outputs" / "run")
    measured = folder.read_summary()["scales"]
    assert all(0 < each["evaluation_seconds"] < folder.read_summary()["seconds"] for each in measured)
    speeds, larger = Speeds(tmp_path / "outputs"), [*small, "schedule=single", "size=128", "evaluations=10"]
    for seconds, expected in (([2, 2], 20), ([1, 4], 160), ([2, 5], 170), ([None, 4], 160), ([None, None], None)):
        told = [each | {"evaluation_seconds": rate} for each, rate in zip(measured, seconds, strict=True)]
        folder.update_summary({"scales": told})
        estimated = speeds.estimate(larger, measure=False).seconds
        assert estimated == (expected if expected is None else pytest.approx(expected, rel=0.1))


@needs_gradio
def test_a_typed_number_comes_into_the_range_of_its_slider() -> None:
    import gradio as gr

    from nst.studio.tabs.knob import knob

    with gr.Blocks():
        whole, fine = knob(1, 2000, 350, step=1, label="Evaluations"), knob(0.25, 4, 1, step=0.05, label="Brush scale")
    assert [whole.preprocess(number) for number in (3000, 0, 100.6, 7, None)] == [2000, 1, 101, 7, None]
    assert [fine.preprocess(number) for number in (9, 0.123, 1.234)] == [4, 0.25, 1.234]


@needs_gradio
def test_paint_and_look_say_what_a_newcomer_may_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins, the style weight, what is compared, and why Compare can't be pressed."""
    import gradio as gr

    from nst.studio.tabs.look import Look, _compare_button
    from nst.studio.tabs.paint import FIRST, Paint

    with gr.Blocks():
        paint = Paint(Queue(tmp_path), Speeds(tmp_path))
        look = Look(paint, gr.Tabs())
    assert paint.strength.info == "weights.style = 1e6; the slider shows its log10"
    chosen: list[str] = []
    for name, runs, says in (("a", ["a"], "Added: press to remove"), ("a", [], "Add to the comparison")):
        chosen, add, _ = look._add(name, chosen)
        assert (chosen, add.value) == (runs, says)
    for stand_ins, expected in (([], ""), (["content", "style"], "content and style (the originals couldn't be downl")):
        estimate = Estimate((64, 48), 1, 10**9, None, stand_ins)
        monkeypatch.setattr(paint.speeds, "estimate", lambda words, *, measure, made=estimate: made)
        said = paint._estimated(FIRST)[0]
        assert "64 x 48 px, 1 evaluation: " in said
        assert expected in said
        assert ("Stand-in" in said) == bool(stand_ins)
    buttons = [_compare_button(number) for number in range(3)]
    assert [each.value for each in buttons] == [
        "Compare: add at least two runs", "Compare: add at least one more run", "Compare 2 runs",
    ]  # fmt: skip
    assert [each.interactive for each in buttons] == [False, False, True]


def test_no_objective_has_the_name_of_a_key() -> None:
    assert not set(options_of("objective")) & set(Config.model_fields)


@needs_gradio
def test_mistakes_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert command_line.main(["--outputs", str(tmp_path), "--port", str(port)]) == 2
    assert f"error: --port={port}: can't listen on 127.0.0.1: Address already in use" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert command_line.main(["--outputs", str(tmp_path / "file")]) == 2
    assert "error: --outputs=" in capsys.readouterr().err


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("gradio is not installed")
    found = Studio(tmp_path_factory.mktemp("guarded"))
    yield found
    found.close()


Answer = tuple[int, bytes]


def ask(studio: Studio, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    host = studio.address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body=body or None, headers=named)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def multipart(content: bytes, name: str) -> tuple[bytes, str]:
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    return head + content + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


def test_hostile_requests_change_nothing(guarded: Studio) -> None:
    (guarded.folder / "secret.txt").write_text("the secret")
    (guarded.outputs / ".studio" / "secret.txt").write_text("the secret")
    for folder in (guarded.folder, guarded.outputs / ".studio"):
        (folder / "result.png").write_text("the secret")
    until(lambda: ask(guarded, "GET", "/")[0] == 200, what="page")
    before = sorted(guarded.folder.rglob("*"))
    answers: list[Answer] = []
    secret = str(guarded.folder / "secret.txt")
    paths = [
        "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", f"/file={secret}", f"/gradio_api/file={secret}",
        f"/gradio_api/file={guarded.outputs}/.studio/secret.txt",
        "/gradio_api/file=secret.txt", "/gradio_api/file=../secret.txt", "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=%2fetc%2fpasswd", f"/gradio_api/file={guarded.outputs}/../secret.txt",
        "/runs/../../secret.txt", "/runs/.studio/secret.txt", "/runs/.studio/queue/%2e%2e/result.png",
        "/runs/x/%2e%2e/%2e%2e/result.png", "/runs/x/..%2f..%2fresult.png", "/runs/" + "a" * 5000 + "/result.png",
        "/static/../../secret.txt", "/assets/../../../../../../etc/passwd", "/theme.css/../../etc/passwd",
        "/gradio_api/stream/../../etc/passwd", "/gradio_api/proxy=http://169.254.169.254/", "/docs", "/openapi.json",
        "/gradio_api/file=http://127.0.0.1:9/x", "/gradio_api/upload_progress?upload_id=../x", "/%00", "/%ff%fe",
    ]  # fmt: skip
    answers += [ask(guarded, "GET", path) for path in paths]
    for name in ("../../x.png", "/etc/x.png", "x" * 3000, "a\x00b.png", "con.png"):
        body, kind = multipart(b"no picture", name)
        answers.append(ask(guarded, "POST", "/gradio_api/upload", body, Content_Type=kind))
    bodies = [b"{", b"[]", b"null", b'{"data": 3}', b"\xff" * 100, b"[" * 100_000]
    for file in (secret, "/etc/passwd", "../secret.txt", "http://169.254.169.254/latest"):
        for function in range(6):
            given = [{"path": file, "meta": {"_type": "gradio.FileData"}}]
            bodies.append(json.dumps({"data": given, "fn_index": function, "session_hash": "x"}).encode())
    for body in bodies:
        answers.append(ask(guarded, "POST", "/gradio_api/queue/join", body, Content_Type="application/json"))
    answers += list(every_function(guarded, {"path": secret, "meta": {"_type": "gradio.FileData"}}))
    assert not [body for _, body in answers if b"the secret" in body or b"root:x" in body]
    refused = [
        ask(guarded, "POST", "/gradio_api/queue/join", b"{}", Origin="https://example.org"),
        ask(guarded, "POST", "/gradio_api/upload", b"{}", Sec_Fetch_Site="cross-site"),
        ask(guarded, "GET", "/", Host="example.org"),
        ask(guarded, "GET", "/", Host="example.org:80", Origin="http://example.org:80"),
        ask(guarded, "PUT", "/gradio_api/upload", b"", Origin="null"),
    ]
    assert [status for status, _ in refused] == [403] * 5
    assert ask(guarded, "POST", "/gradio_api/upload", b"", Content_Length=str(10**9))[0] == 413
    assert too_much(guarded)
    idle = [socket.create_connection(("127.0.0.1", port_of(guarded))) for _ in range(100)]
    for each in idle[:50]:
        each.sendall(b"GET / HTTP/1.1\r\nHost: ")
    for each in idle:
        each.close()
    until(lambda: ask(guarded, "GET", "/")[0] == 200, what="page after all this")
    assert guarded.process.poll() is None
    assert sorted(guarded.folder.rglob("*")) == before


def every_function(studio: Studio, given: object) -> Iterator[Answer]:
    """Give a value to each function that looks at what it gets; yield what it says, and the files that it names."""
    page = json.loads(ask(studio, "GET", "/config")[1])
    functions = [
        each for each in page["dependencies"] if each["inputs"] and each["targets"][0][1] in ("change", "input")
    ]
    assert len(functions) > 3
    for function in functions:
        session = f"s{function['id']}"
        data = {"data": [given] * len(function["inputs"]), "fn_index": function["id"], "session_hash": session}
        body = json.dumps(data).encode()
        assert ask(studio, "POST", "/gradio_api/queue/join", body, Content_Type="application/json")[0] == 200
        answer = ask(studio, "GET", f"/gradio_api/queue/data?session_hash={session}")
        yield answer
        for path in re.findall(rb"/[\w/.-]*secret[\w.]*", answer[1]):
            yield ask(studio, "GET", f"/gradio_api/file={path.decode()}")


def port_of(studio: Studio) -> int:
    return int(studio.address.rstrip("/").rpartition(":")[2])


def too_much(studio: Studio) -> bool:
    """Send 200 MB without saying so; return whether the server refuses them."""
    with socket.create_connection(("127.0.0.1", port_of(studio)), timeout=30) as sender:
        head = (
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{port_of(studio)}\r\nTransfer-Encoding: chunked\r\n"
        )
        sender.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
        begin = b'--x\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\n'
        try:
            sender.sendall(f"{len(begin):x}\r\n".encode() + begin + b"\r\n")
            for _ in range(200):
                sender.sendall(b"f4240\r\n" + bytes(10**6) + b"\r\n")
            sender.sendall(b"0\r\n\r\n")
            answer = sender.recv(100)
        except OSError:  # it hangs up
            return True
    return b" 200 " not in answer


@needs_gradio
def test_another_address_asks_for_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NST_STUDIO_PASSWORD", "open sesame")
    studio = Studio(tmp_path, "--host", "0.0.0.0")
    try:
        studio.address = studio.address.replace("0.0.0.0", "127.0.0.1")
        assert ask(studio, "GET", "/")[0] == 401
        wrong, right = (base64.b64encode(f"me:{word}".encode()).decode() for word in ("sesame", "open sesame"))
        assert ask(studio, "GET", "/", Authorization=f"Basic {wrong}")[0] == 401
        assert ask(studio, "GET", "/runs/x/result.png", Authorization="Basic x")[0] == 401
        assert ask(studio, "GET", "/", Authorization=f"Basic {right}")[0] == 200
    finally:
        studio.close()


def test_a_second_studio_for_the_same_folder_names_the_first(
    guarded: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line.main(["--outputs", str(guarded.outputs), "--port", "0"]) == 2
    why = f"another studio uses this folder, at {guarded.address}; open that one, or choose another folder"
    assert capsys.readouterr().err == f"error: --outputs={guarded.outputs}: {why}\n"


def test_the_page_is_usable_soon_and_costs_nothing_while_idle(guarded: Studio) -> None:
    """At most 6 seconds of a processor beyond the import of torch, and none while nothing happens."""
    until(lambda: ask(guarded, "GET", "/")[0] == 200, what="page")
    assert json.loads(ask(guarded, "GET", "/config")[1])["i18n_translations"]["en"] == {"common.complete": "Done"}
    process = psutil.Process(guarded.process.pid)
    assert guarded.seconds < 6 * SLOWNESS + importing("torch")
    time.sleep(2)
    before = sum(process.cpu_times()[:2])
    time.sleep(5)
    assert sum(process.cpu_times()[:2]) - before < 0.06 * SLOWNESS


def importing(module: str) -> float:
    """Return the seconds of a processor that a new process takes to import a module."""
    before = os.times()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_a_run_of_the_command_line_is_watched_and_stopped(small: list[str], tmp_path: Path) -> None:
    words = [*small, "callbacks=live", "size=96", "evaluations=5000", "schedule=single", "hydra.run.dir=run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "nst.train", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "can be watched at" in line)
        address = line.split("http://127.0.0.1:")[1].strip().rstrip("/")
        port = int(address)

        def request(method: str, path: str, **headers: str) -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()

        page = request("GET", "/")[1].decode()
        assert "Stop and keep the picture" in page
        until(lambda: b"data:image/jpeg" in request("GET", "/run")[1], what="picture")
        assert request("GET", "/../summary.json")[0] == 404
        assert request("GET", "/", Host="example.org")[0] == 403
        assert request("POST", "/stop")[0] == 403
        token = page.split('"X-Token": "')[1].split('"')[0]
        assert request("POST", "/stop", X_Token=token, Host="example.org")[0] == 403
        assert process.poll() is None
        assert request("POST", "/stop", X_Token=token)[0] == 200
        process.communicate(timeout=60 * SLOWNESS)
    finally:
        process.kill()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert (tmp_path / "run" / "result.png").is_file()
