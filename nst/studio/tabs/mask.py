"""The tab on which a region of the content is brushed for a style."""

from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageChops

from nst.errors import UserError
from nst.image import reading
from nst.studio import form, gallery
from nst.studio.form import Picture
from nst.studio.mistakes import shown
from nst.studio.tabs.paint import Paint

#: The styles that can have a region.
STYLES = ("first style", "second style", "third style")


class Mask:
    """The tab on which a region of the content is brushed for a style.

    Args:
        paint: the form, which gets the masks.
    """

    def __init__(self, paint: Paint) -> None:
        self.paint = paint
        gr.Markdown(
            "Brush over a part of the content to give it a style. The command names the mask: `style.region=FILE`."
        )
        with gr.Row():
            with gr.Column(scale=3):
                self.editor = gr.ImageEditor(
                    label="Content", type="pil", image_mode="RGBA", sources=(), transforms=(), layers=False, height=520,
                    brush=gr.Brush(colors=["#ff2d55"], color_mode="fixed", default_size=40), buttons=[],
                )  # fmt: skip
            with gr.Column(scale=1):
                self.load = gr.Button("Load the content picture")
                self.style = gr.Radio(list(STYLES), value=STYLES[0], label="Region of")
                self.other = gr.Checkbox(False, label="Everything except the brushed part")
                self.use = gr.Button("Use as its region", variant="primary")
                self.clear = gr.Button("Remove its region")
                self.masks = gr.Gallery(
                    label="Regions", elem_classes="nst-gallery", object_fit="contain", allow_preview=False, buttons=[]
                )
        private: Any = {"api_visibility": "private"}
        self.load.click(self._load, paint.content, self.editor, **private)
        self.use.click(
            self._use,
            [self.editor, self.style, self.other, paint.content, *paint.regions],
            [*paint.regions, self.masks],
            **private,
        )
        self.clear.click(self._clear, [self.style, *paint.regions], [*paint.regions, self.masks], **private)

    def _load(self, content: Picture | None) -> dict[str, Any]:
        return {"background": _picture(content), "layers": [], "composite": None}

    def _use(
        self, edited: dict[str, Any] | None, style: str, other: bool, content: Picture | None, *regions: Path | None
    ) -> tuple[Any, ...]:
        layers = [layer.convert("RGBA") for layer in (edited or {}).get("layers") or []]
        mask = Image.new("L", _picture(content).size)
        for layer in layers:
            brushed = layer.getchannel("A").resize(mask.size, Image.Resampling.BILINEAR)
            mask = ImageChops.lighter(mask, brushed)
        if mask.getextrema()[1] == 0:
            raise shown("Nothing is brushed: load the content picture, and brush over a part of it.")
        if other:
            mask = ImageChops.invert(mask)
        return _shown(_with(regions, style, self.paint.queue.uploads.keep_mask(mask)))

    def _clear(self, style: str, *regions: Path | None) -> tuple[Any, ...]:
        return _shown(_with(regions, style, None))


def _with(regions: tuple[Path | None, ...], style: str, region: Path | None) -> list[Path | None]:
    place = STYLES.index(style)
    return [region if number == place else each for number, each in enumerate(regions)]


def _shown(regions: list[Path | None]) -> tuple[Any, ...]:
    small = [(gallery.small(region), name) for region, name in zip(regions, STYLES, strict=True) if region is not None]
    return (*regions, small)


def _picture(content: Picture | None) -> Image.Image:
    """Return the content picture, reduced to what is shown."""
    if content is None or isinstance(content, UserError):
        raise shown("Choose a content picture on the tab Paint first.")
    path = content if isinstance(content, Path) else form.bundled("content")[content]
    try:
        found = reading.read(path, key="content.path")
    except UserError as error:
        raise shown(error) from None
    found.thumbnail((gallery.LARGE, gallery.LARGE))
    return found
