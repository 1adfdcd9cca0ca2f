"""The tab that shows the runs that there are."""

import html
import secrets
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from nst.errors import UserError, count
from nst.studio import form, gallery
from nst.studio.gallery import Entry
from nst.studio.mistakes import shown
from nst.studio.status import job_status, status_text
from nst.studio.tabs.knob import level_of
from nst.studio.tabs.paint import FIRST, Paint, about

_ADD = "Add to the comparison"


class Look:
    """The tab that shows the runs that there are, one of them in detail, and several side by side.

    Args:
        paint: the form that a run is loaded into.
        tabs: the tabs of the page.
    """

    def __init__(self, paint: Paint, tabs: gr.Tabs) -> None:
        self.outputs = paint.queue.outputs
        self.compared = self.outputs / ".studio" / "compare"
        self.names = gr.State([])
        self.chosen = gr.State(None)
        self.selection = gr.State([])
        with gr.Row():
            self.words = gr.Textbox("", label="Filter", placeholder="starry_night lbfgs", scale=4, min_width=320)
            self.refresh = gr.Button("Refresh", scale=1)
        self.gallery = gr.Gallery(
            label="Runs, the newest first",
            elem_classes="nst-gallery",
            height=None,
            object_fit="contain",
            allow_preview=False,
            buttons=[],
        )
        with gr.Row():
            with gr.Column(scale=3):
                self.slider = gr.ImageSlider(label="Content and result", interactive=False, buttons=["fullscreen"])
            with gr.Column(scale=2):
                with gr.Row():
                    self.again = gr.Button("Again with changes", interactive=False)
                    self.add = gr.Button(_ADD, interactive=False)
                self.compare = _compare_button(0)
                self.link = gr.HTML()
                self.facts = gr.HTML("<p>Choose a run.</p>")
                with gr.Accordion("Configuration", open=False):
                    self.config = gr.Code(language="yaml", interactive=False, label="config.yaml")
        self.film = gr.Video(label="Film", interactive=False, visible=False, autoplay=True, loop=True, height=360)
        with gr.Accordion("A picture that nst has saved", open=False):
            self.dropped = gr.Image(
                label="Drop a result.png to paint it again", type="filepath", image_mode=None, height=200
            )
        private: Any = {"api_visibility": "private"}
        self.shown = [self.gallery, self.names]
        gr.on([self.words.change, self.refresh.click], self.show, self.words, self.shown, **private)
        self.gallery.select(
            self._choose, [self.names, self.selection],
            [self.chosen, self.slider, self.film, self.facts, self.config, self.again, self.add], **private,
        )  # fmt: skip
        self.form = [
            paint.content, paint.content_image, *paint.styles, *paint.style_images, *paint.regions, *paint.weights,
            paint.preset, paint.about, paint.strength, paint.size, paint.brush, paint.color, paint.objective,
            paint.evaluations, paint.more, tabs,
        ]  # fmt: skip
        self.again.click(self._again, self.chosen, self.form, **private)
        self.dropped.upload(self._rerun, self.dropped, [self.dropped, *self.form], preprocess=False, **private)
        compared = [self.selection, self.add, self.compare]
        self.add.click(self._add, [self.chosen, self.selection], compared, **private)
        self.compare.click(self._compare, self.selection, [*compared, self.link], **private)
        self.paint = paint

    def show(self, words: str = "") -> tuple[list[tuple[Any, str]], list[str]]:
        """Return the pictures of the newest runs, and their names."""
        found = gallery.entries(self.outputs, words)
        pictures, names = [], []
        for entry, caption in zip(found, gallery.captions(found), strict=True):
            with suppress(OSError, UserError):  # a picture that is damaged, or was removed in between
                if entry.picture is not None:
                    pictures.append((gallery.small(entry.picture), caption))
                    names.append(entry.name)
        return pictures, names

    def _entry(self, name: str) -> Entry:
        found = gallery.entry_of(self.outputs, name)
        if found is None:
            raise shown(f"{name}: this run no longer exists")
        return found

    def _choose(self, names: list[str], selection: list[str], event: gr.SelectData) -> tuple[Any, ...]:
        entry = self._entry(names[event.index])
        film = entry.film()
        return (
            entry.name,
            gallery.beside(entry),
            gr.Video(None if film is None else str(film), visible=film is not None),
            gallery.about(entry, self._doing(entry)),
            gallery.configuration(entry),
            gr.Button(interactive=True),
            _add_button(entry.name, selection),
        )

    def _doing(self, entry: Entry) -> str | None:
        """Return what the queue knows of the run's status; None if it isn't in the queue any more."""
        job = next((job for job in self.paint.queue.jobs() if job.folder == entry.folder), None)
        return status_text(entry.folder, job_status(job, entry.status))

    def _again(self, name: str) -> tuple[Any, ...]:
        """Return the form of a run: what it was started with."""
        return self._filled(self._entry(name).overrides)

    def _rerun(self, dropped: dict[str, Any]) -> tuple[Any, ...]:
        """Return an empty field, and the form of a picture that carries its configuration."""
        try:
            kept = self.paint.queue.uploads.keep_dropped(dropped, key="rerun")
        except UserError as error:
            gr.Warning(html.escape("\n".join(error.problems)))
            return None, *[gr.skip()] * len(self.form)
        return None, *self._filled([f"rerun={kept}"])

    def _filled(self, words: list[str]) -> tuple[Any, ...]:
        """Return the values of ``self.form`` for some overrides.

        The pictures of a pair, and those that another picture's configuration names, are no choices of the form.
        """
        known, others = form.split(words)
        name = known.get("experiment")
        usual = form.knobs_of(name)
        said = any(word.startswith(("rerun=", "pair=", "pair/")) for word in others)
        chosen: dict[str, str | Path | None] = {}
        for group, default in zip(("content", "style"), FIRST, strict=True):
            named = known.get(group, None if said else default.partition("=")[2])
            chosen[group] = Path(known[f"{group}.path"]) if f"{group}.path" in known else named
        images = {}
        for group, picture in chosen.items():
            with suppress(OSError, UserError):
                path = form.bundled(group)[picture] if isinstance(picture, str) else picture
                images[group] = None if path is None else gallery.small(path, gallery.LARGE)
        return (
            chosen["content"], images.get("content"), chosen["style"], None, None, images.get("style"), None, None,
            None, None, None, 1.0, 1.0, 1.0,
            name or "", about(name), level_of(usual.strength), int(known.get("size", usual.size)), usual.brush,
            known.get("color", usual.color), known.get("objective", usual.objective),
            int(known.get("evaluations", usual.evaluations)), shlex.join(others), gr.Tabs(selected="paint"),
        )  # fmt: skip

    def _add(self, name: str, selection: list[str]) -> tuple[list[str], Any, Any]:
        """Add a run to the comparison, or remove it if it is there; return the runs, and the two buttons."""
        changed = [each for each in selection if each != name] if name in selection else [*selection, name]
        return changed, _add_button(name, changed), _compare_button(len(changed))

    def _compare(self, selection: list[str]) -> Iterator[tuple[Any, Any, Any, str]]:
        """Yield what the page shows during the comparison, and afterwards."""
        folders = [self._entry(name).folder for name in selection]
        key = secrets.token_hex(8)
        yield gr.skip(), gr.skip(), gr.Button(interactive=False), f"<p>Comparing {len(selection)} runs…</p>"
        try:
            unmeasured = gallery.unmeasured(folders)
            if unmeasured:
                told = f"<p>Measuring {count(len(unmeasured), 'picture')} before the comparison…</p>"
                yield gr.skip(), gr.skip(), gr.skip(), told
                gallery.measure(unmeasured)
            gallery.compare(folders, self.compared / key)
        except UserError as error:
            yield gr.skip(), gr.skip(), gr.Button(interactive=True), ""
            raise shown(error) from None
        names = html.escape(", ".join(selection))
        page = f"runs/.studio/compare/{key}/index.html"
        link = f'<a class="nst-open" href="{page}" target="_blank">Open the comparison</a><p>{names}</p>'
        yield [], gr.Button(_ADD), _compare_button(0), link


def _add_button(name: str, selection: list[str]) -> Any:
    """Return the button that adds a run to the comparison, or removes it if it is there."""
    return gr.Button("Added: press to remove" if name in selection else _ADD, interactive=True)


def _compare_button(number: int) -> Any:
    """Return the button that compares a number of runs, which says what to do if they are too few."""
    few = {0: "Compare: add at least two runs", 1: "Compare: add at least one more run"}
    return gr.Button(few.get(number, f"Compare {number} runs"), interactive=number > 1)
