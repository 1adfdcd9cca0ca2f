"""The page: its tabs, and what leads from one to another."""

from typing import Any

import gradio as gr

from nst.live.view import CSS
from nst.studio.estimate import Speeds
from nst.studio.queue import Queue
from nst.studio.tabs.look import Look
from nst.studio.tabs.mask import Mask
from nst.studio.tabs.paint import ESTIMATES, Paint
from nst.studio.tabs.watch import Watch

#: Seconds between two looks for files of Gradio's that are to be removed, and their age then.
FORGET = (3600, 24 * 3600)

#: Fonts of the system alone: a theme's own would be loaded from another host.
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}

STYLE = f"""
{CSS}
.nst-error, .nst-error * {{ color: var(--error-icon-color) !important; }}
.nst-error {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
.nst-mark {{ border-left: 3px solid #f59e0b; padding-left: .6rem; overflow-wrap: anywhere; }}
.nst-gallery .grid-container {{ grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)) !important; }}
.nst-bundled .grid-container {{ grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)) !important; }}
.nst-bundled .grid-wrap, .nst-gallery .grid-wrap {{ min-height: 0 !important; }}
.nst-bundled .caption-label {{ left: 0; right: auto; max-width: 100%; font-size: .7rem; padding: 0 .25rem; }}
.nst-gallery .caption-label {{
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; max-width: 100%; white-space: normal;
  overflow-wrap: anywhere; text-align: left; line-height: 1.25; padding-bottom: 0;
}}
.nst-open {{
  display: block; padding: .7rem 1rem; border-radius: var(--button-large-radius); text-align: center; font-weight: 600;
  background: var(--button-primary-background-fill); color: var(--button-primary-text-color) !important;
  text-decoration: none !important; overflow-wrap: anywhere;
}}
.nst-open:hover {{ background: var(--button-primary-background-fill-hover); }}
.nst-facts dl {{ display: grid; grid-template-columns: fit-content(40%) minmax(0, 1fr); gap: .1rem 1rem; }}
.nst-facts dt {{ opacity: .7; overflow-wrap: anywhere; }} .nst-facts dd {{ margin: 0; overflow-wrap: anywhere; }}
"""

#: Texts that Gradio's own translations lack: it tells a screen reader that an event is done, by the name of the text.
TEXTS = {"en": {"common.complete": "Done"}}

#: Gradio's fields for pictures refuse a file whose name isn't known to the browser as a picture's, with a message of
#: their own. Some pictures that nst reads are among them. So this script gives each file the type of a picture.
SCRIPT = """() => {
  const passed = (files) => {
    const transfer = new DataTransfer();
    for (const file of files) transfer.items.add(new File([file], file.name, {type: "image/any"}));
    return transfer;
  };
  const foreign = (files) => [...(files || [])].some((file) => !file.type.startsWith("image/"));
  window.addEventListener("change", (event) => {
    const field = event.target;
    if (field.type === "file" && foreign(field.files)) field.files = passed(field.files).files;
  }, true);
  window.addEventListener("drop", (event) => {
    if (!foreign(event.dataTransfer && event.dataTransfer.files)) return;
    event.preventDefault();
    event.stopPropagation();
    const init = {dataTransfer: passed(event.dataTransfer.files), bubbles: true, cancelable: true};
    event.target.dispatchEvent(new DragEvent("drop", init));
  }, true);
}"""


def page(queue: Queue, speeds: Speeds) -> gr.Blocks:
    """Return the page of the studio."""
    with gr.Blocks(title="nst studio", analytics_enabled=False, delete_cache=FORGET) as blocks:
        gr.Markdown("# nst studio")
        with gr.Tabs() as tabs:
            with gr.Tab("Paint", id="paint"):
                paint = Paint(queue, speeds)
            with gr.Tab("Watch", id="watch") as watching:
                watch = Watch(queue)
            with gr.Tab("Mask", id="mask"):
                Mask(paint)
            with gr.Tab("Look", id="look") as looking:
                look = Look(paint, tabs)
        private: Any = {"show_progress": "hidden", "api_visibility": "private"}
        paint.start.click(paint.begin, paint.inputs, None, api_visibility="private").success(
            lambda: gr.Tabs(selected="watch"), None, tabs, **private
        ).then(watch.show, watch.budget, watch.outputs, **private)
        watching.select(watch.show, watch.budget, watch.outputs, **private)
        gr.on([looking.select, watch.job.change], look.show, look.words, look.shown, **private)  # a run began or ended
        blocks.load(watch.show, watch.budget, watch.outputs, **private)
        blocks.load(paint.first, None, [paint.said, paint.start], concurrency_id=ESTIMATES, **private)
    # Gradio looks for events a thousand times a second, which takes 3% of a processor while nothing happens.
    blocks._queue.sleep_when_free = blocks._queue.progress_update_sleep_when_free = 0.05
    return blocks


def theme() -> Any:
    """Return the page's theme, which needs no other host."""
    return gr.themes.Default(**FONTS)
