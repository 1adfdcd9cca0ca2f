"""Films of a run's pictures, H.264 in MP4 or a GIF. Frames are read, encoded and released one by one."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from PIL import Image

from nst.files.atomic import replacing

Format = Literal["mp4", "gif"]


def schedule(evaluations: int, frames: int) -> set[int]:
    """Return the evaluations to show, including 1 and the last: dense at first, when most changes, sparse later."""
    positions = np.linspace(0, 1, max(2, min(frames, evaluations))) ** 2
    return {1 + round(position * (evaluations - 1)) for position in positions.tolist()}


def write(pictures: Sequence[Path], path: Path, *, fps: int, hold: float, format: Format) -> None:  # noqa: A002
    """Encode pictures as a film of the last one's size, with the first and the last held for ``hold`` seconds.

    The file is written atomically.
    """
    shown = [pictures[0]] * round(hold * fps) + list(pictures) + [pictures[-1]] * round(hold * fps)
    with replacing(path) as temporary, av.open(str(temporary), "w", format=format) as container:
        if format == "mp4":
            stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
            stream.pix_fmt = "yuv420p"
            frames = _frames(shown, even=True)
        else:
            stream = container.add_stream("gif", rate=fps)
            stream.pix_fmt = "pal8"
            frames = _with_palette(shown)
        for number, frame in enumerate(frames):
            if number == 0:
                stream.width, stream.height = frame.width, frame.height
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _frames(paths: Sequence[Path], *, even: bool = False) -> Iterator[av.VideoFrame]:
    """Yield the pictures one by one, with ``even`` sides for H.264, which stores colours at half the size."""
    with Image.open(paths[-1]) as last:
        size = last.size
    for path in paths:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        if even:
            pixels = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
        yield av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


def _with_palette(paths: Sequence[Path]) -> Iterator[av.VideoFrame]:
    """Yield the pictures in the 256 colours that fit all of them best; each picture is read twice."""
    [palette] = _filtered(_frames(paths), "palettegen")
    yield from _filtered(_frames(paths), "paletteuse", palette)


def _filtered(
    frames: Iterator[av.VideoFrame], name: str, second: av.VideoFrame | None = None
) -> Iterator[av.VideoFrame]:
    """Yield the frames after one of FFmpeg's filters, which may take a ``second`` input of one frame."""
    graph, first = Graph(), next(frames)
    node, sink = graph.add(name), graph.add("buffersink")
    inputs = [first] if second is None else [first, second]
    sources = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 30))
        for frame in inputs
    ]
    for number, source in enumerate(sources):
        source.link_to(node, 0, number)
    node.link_to(sink)
    graph.configure()
    for source in sources[1:]:
        source.push(second)
        source.push(None)
    for number, frame in enumerate(itertools.chain([first], frames)):
        frame.pts = number
        sources[0].push(frame)
        yield from _pulled(sink)
    sources[0].push(None)
    yield from _pulled(sink)


def _pulled(sink: FilterContext) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(av.BlockingIOError, av.EOFError):
        while True:
            frame = sink.pull()
            assert isinstance(frame, av.VideoFrame)
            yield frame
