"""The tab that starts a run."""

import html
from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from nst.config.mistakes import options_of
from nst.config.overrides import command as run_command
from nst.errors import UserError, count
from nst.live.view import duration, stand_in_text
from nst.studio import form, gallery
from nst.studio.estimate import Speeds
from nst.studio.form import Form, Knobs, Picture, StyleChoice
from nst.studio.mistakes import shown
from nst.studio.queue import Queue
from nst.studio.tabs.knob import knob, level_of, told_strength

#: Overrides of the form as the page opens.
FIRST = ("content=tubingen", "style=starry_night")

#: Estimates are made one after another, so that the last one is shown.
ESTIMATES = "estimates"


class Paint:
    """The tab that starts a run. Its fields stand for overrides, which its command line shows.

    Args:
        queue: where runs are started.
        speeds: what runs take on this machine.
    """

    def __init__(self, queue: Queue, speeds: Speeds) -> None:
        self.queue = queue
        self.speeds = speeds
        self.content = gr.State("tubingen")
        self.styles = [gr.State("starry_night"), gr.State(None), gr.State(None)]
        self.regions = [gr.State(None) for _ in self.styles]
        self.estimate = gr.State(None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2):
                self._add_pictures()
                self._add_command()
            with gr.Column(scale=1):
                self._add_knobs()
        self.inputs = [
            self.content, *self.styles, *self.regions, *self.weights, self.preset, self.strength, self.size, self.brush,
            self.color, self.objective, self.evaluations, self.more,
        ]  # fmt: skip
        self._listen()

    def _add_pictures(self) -> None:
        """Add the fields for the content picture and for up to three style pictures, with their weights."""
        with gr.Row(equal_height=False):
            with gr.Column(min_width=240):
                self.content_image = self._picture("content", "Content picture", self.content, "tubingen")
            with gr.Column(min_width=240):
                self.style_images = [self._picture("style", "Style picture", self.styles[0], "starry_night")]
        with gr.Accordion("More styles", open=False):
            self.weights = [knob(0, 4, 1, step=0.1, label="Weight of the first style")]
            with gr.Row(equal_height=False):
                for number, name in ((1, "Second"), (2, "Third")):
                    with gr.Column(min_width=240):
                        self.style_images.append(self._picture("style", f"{name} style", self.styles[number], None))
                        self.weights.append(knob(0, 4, 1, step=0.1, label=f"Weight of the {name.lower()} style"))

    def _add_command(self) -> None:
        """Add the field for further overrides, the button, and the command that makes the same run."""
        self.more = gr.Textbox(
            "", label="Further overrides", placeholder="optimizer=adam weights.tv=0 seed=1",
            info="any other keys; seed=1 is another random start",
        )  # fmt: skip
        self.said = gr.HTML()
        self.start = gr.Button("Start", variant="primary")
        self.command = gr.Code(
            run_command(FIRST), label="The same run as a command", language="shell", interactive=False,
            lines=1, wrap_lines=True,
        )  # fmt: skip

    def _add_knobs(self) -> None:
        """Add the preset, and the settings that most runs change."""
        usual = form.knobs_of(None)
        choices = [(preset.name or "defaults", preset.name or "") for preset in form.presets()]
        self.preset = gr.Dropdown(choices, value="", label="Preset")
        self.about = gr.Markdown(about(None))
        self.strength = knob(
            -1, 10, level_of(usual.strength), step=0.05, label="Style strength",
            info=told_strength(level_of(usual.strength)),
        )  # fmt: skip
        self.size = knob(*form.RANGES["size"], usual.size, step=1, label="Size", info="longest side in px")
        self.brush = knob(0.25, 4, usual.brush, step=0.05, label="Brush scale", info="style.scale")
        self.color = gr.Radio(list(form.COLORS), value=usual.color, label="Colours")
        methods = options_of("objective")
        self.objective = gr.Dropdown(methods, value=usual.objective, label="Method", info="objective")
        self.evaluations = knob(
            *form.RANGES["evaluations"],
            usual.evaluations,
            step=1,
            label="Evaluations",
            info=f"for more than {form.RANGES['evaluations'][1]}: evaluations=N in Further overrides",
        )

    def _listen(self) -> None:
        """Keep the command, the mistakes and the estimate up to date."""
        self.strength.change(
            lambda level: gr.Slider(info=told_strength(level)), self.strength, self.strength,
            show_progress="hidden", trigger_mode="always_last", api_visibility="private",
        )  # fmt: skip
        self.preset.input(
            self._choose,
            self.preset,
            [self.about, self.strength, self.size, self.brush, self.color, self.objective, self.evaluations],
            api_visibility="private",
        )
        gr.on(
            [each.change for each in self.inputs],
            self._tell,
            [self.command, *self.inputs],
            [self.said, self.start, self.command],
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )
        self.command.change(  # of its own, as an estimate may take a while
            self._estimate,
            [self.command, *self.inputs],
            self.estimate,
            show_progress="hidden",
            trigger_mode="always_last",
            concurrency_id=ESTIMATES,
            api_visibility="private",
        ).then(
            self._tell_estimate,
            [self.estimate, self.command],
            [self.said, self.start],
            show_progress="hidden",
            api_visibility="private",
        )

    def begin(self, *values: Any) -> None:
        """Add the run to the queue. Raise ``gradio.Error`` if the form has a mistake, or the run can't be added."""
        try:
            words = _form(values).words()
            problems = form.check(words)
            if problems:
                raise UserError(problems)
            self.queue.add(words)
        except (UserError, OSError) as error:
            raise shown(error) from None

    def first(self) -> tuple[str, Any]:
        """Return the estimate of the form as the page opens, without a run that measures the speed."""
        return self._estimated(FIRST, measure=False)

    def _picture(self, group: str, label: str, chosen: gr.State, name: str | None) -> gr.Image:
        """Add a field for a picture, with the bundled ones below it; ``chosen`` becomes its name or its file."""
        pictures = form.bundled(group)
        image = gr.Image(
            None if name is None else gallery.small(pictures[name], gallery.LARGE),
            label=label,
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            height=260,
        )
        names = list(pictures)
        thumbnails = gr.Gallery(
            [(gallery.small(path, 160), name) for name, path in pictures.items()],
            label=f"Bundled: {label.lower()}",
            show_label=False,
            elem_classes="nst-bundled",
            height=None,
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            buttons=[],
        )

        def pick(event: gr.SelectData) -> tuple[str, Any, Any]:
            found = names[event.index]
            return found, gallery.small(pictures[found], gallery.LARGE), gr.Gallery(selected_index=None)

        thumbnails.select(pick, None, [chosen, image, thumbnails], show_progress="hidden", api_visibility="private")
        keep = partial(self._keep, f"{group}.path")  # not preprocessed: Gradio reads fewer formats
        image.upload(keep, image, [chosen, image], preprocess=False, api_visibility="private")
        image.clear(lambda: None, None, chosen, api_visibility="private")
        return image

    def _keep(self, key: str, dropped: dict[str, Any]) -> tuple[Picture, Any]:
        """Return a dropped picture for the form, and what its field shows: nothing if it can't be used."""
        try:
            kept = self.queue.uploads.keep_dropped(dropped, key=key)
            return kept, gallery.small(kept, gallery.LARGE)
        except UserError as error:
            gr.Warning(html.escape("\n".join(error.problems)))
            return error, None

    def _choose(self, preset: str) -> tuple[Any, ...]:
        """Return the preset's own knobs."""
        name = preset or None
        knobs = form.knobs_of(name)
        return (
            about(name), level_of(knobs.strength), knobs.size, knobs.brush, knobs.color,
            knobs.objective, knobs.evaluations,
        )  # fmt: skip

    def _tell(self, before: str, *values: Any) -> tuple[Any, ...]:
        """Return the form's mistakes, the button, and the command line, which starts an estimate if it has changed."""
        try:
            words = _form(values).words()
        except UserError as error:
            return *_mistakes(error.problems), ""
        command = run_command(words)
        if command == before:
            return gr.skip(), gr.skip(), gr.skip()
        problems = form.check(words)
        return *(_mistakes(problems) if problems else ("<p>Estimating…</p>", _ready())), command

    def _estimate(self, command: str, *values: Any) -> tuple[str, tuple[str, Any] | None]:
        """Return the command line, and what it will take; None if the form has a mistake."""
        try:
            words = _form(values).words()
        except UserError:
            return command, None
        return command, self._estimated(words, measure=not self.queue.busy())

    def _tell_estimate(self, estimate: tuple[str, tuple[str, Any] | None], command: str) -> tuple[Any, Any]:
        """Return an estimate and the button, unless the form has changed since the estimate began."""
        about, told = estimate
        return (gr.skip(), gr.skip()) if told is None or about != command else told

    def _estimated(self, words: Sequence[str], *, measure: bool = True) -> tuple[str, Any]:
        """Return what a run will take, and the button.

        Problems that only the run's plan shows may be over when it starts: its memory may be free, its files there.
        """
        try:
            found = self.speeds.estimate(words, measure=measure)
        except UserError as error:
            if form.check(words):
                return _mistakes(error.problems)
            anyway = gr.Button("Start anyway", variant="secondary", interactive=True)
            return _listed("At present, this run would fail:", error.problems), anyway
        width, height = found.shape
        time = "time not known yet" if found.seconds is None else f"about {duration(found.seconds)}"
        memory = f"about {found.memory / 1e9:.1f} GB"
        told = f"<p>{width} x {height} px, {count(found.evaluations, 'evaluation')}: {time}, {memory}</p>"
        mark = f'<p class="nst-mark">Stand-in: {stand_in_text(found.stand_ins)}</p>' if found.stand_ins else ""
        return told + mark, _ready()


def _form(values: Sequence[Any]) -> Form:
    """Return the form of the values of ``Paint.inputs``."""
    content, *rest = values
    pictures, regions, weights, rest = rest[:3], rest[3:6], rest[6:9], rest[9:]
    preset, strength, size, brush, color, objective, evaluations, more = rest
    styles = [
        StyleChoice(picture, 1.0 if weight is None else float(weight), region)
        for picture, region, weight in zip(pictures, regions, weights, strict=True)
        if picture is not None
    ]
    name = preset or None
    usual = form.knobs_of(name)
    knobs = Knobs(  # an empty field is the preset's own
        usual.strength if strength is None else 10.0**strength,
        int(size or usual.size),
        float(brush or usual.brush),
        color,
        objective,
        int(evaluations or usual.evaluations),
    )
    return Form(content, styles, name, knobs, more)


def about(name: str | None) -> str:
    """Return what a preset does."""
    return next(preset.about for preset in form.presets() if preset.name == name)


def _mistakes(problems: Sequence[str]) -> tuple[str, Any]:
    """Return the mistakes of a form as HTML, and the button, which can't be pressed."""
    return _listed("Correct this before you start:", problems), gr.Button(
        "Start", variant="secondary", interactive=False
    )


def _ready() -> Any:
    return gr.Button("Start", variant="primary", interactive=True)


def _listed(title: str, problems: Sequence[str]) -> str:
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in problems)
    return f'<div class="nst-error" role="alert"><strong>{title}</strong><ul>{lines}</ul></div>'
