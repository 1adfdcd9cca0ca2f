"""A slider whose number can be typed, and the scale of the slider for the style weight."""

import math
from typing import Any

import gradio as gr

from nst.errors import written


def knob(*args: Any, **kwargs: Any) -> gr.Slider:
    """Return a slider that moves a typed number into its range, and to a whole number if its steps are whole.

    Gradio would report an error for a number out of the range, and write its traceback to the terminal.
    """
    made = gr.Slider(*args, **kwargs)

    def used(typed: float | None) -> float | None:
        """Return the number for the functions of the page; None for an empty field."""
        if typed is None:
            return None
        number: float = min(max(typed, made.minimum), made.maximum)
        return round(number) if made.step == 1 else number

    setattr(made, "preprocess", used)  # noqa: B010 - not in a subclass, for which Gradio would write a file beside it
    made.release(lambda number: number, made, made, show_progress="hidden", api_visibility="private")
    return made


def level_of(strength: float) -> float:
    """Return the slider's value of a style weight."""
    return math.log10(strength) if strength > 0.1 else -1.0


def told_strength(level: float | None) -> str:
    """Return the style weight of a slider's value, as text."""
    if level is None:
        return "log10 of weights.style"
    return f"weights.style = {written(10.0**level, 3)}; the slider shows its log10"
