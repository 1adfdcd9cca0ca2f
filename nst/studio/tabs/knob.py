"""A slider whose number can be typed, and the scale of the slider for the style weight."""

import math
from typing import Any

import gradio as gr

from nst.errors import written


class Knob(gr.Slider):
    """A slider that moves a typed number into its range, and to a whole number if its steps are whole.

    Gradio would report an error, and write its traceback to the terminal.
    """

    is_template = True  # Gradio then shows it as it shows a slider

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.release(lambda number: number, self, self, show_progress="hidden", api_visibility="private")

    def preprocess(self, payload: float) -> float:
        """Return the number for the functions of the page."""
        number: float = min(max(payload, self.minimum), self.maximum)
        return round(number) if self.step == 1 else number


def level_of(strength: float) -> float:
    """Return the slider's value of a style weight."""
    return math.log10(strength) if strength > 0.1 else -1.0


def told_strength(level: float | None) -> str:
    """Return the style weight of a slider's value, as text."""
    if level is None:
        return "log10 of weights.style"
    return f"weights.style = {written(10.0**level, 3)}; the slider shows its log10"
