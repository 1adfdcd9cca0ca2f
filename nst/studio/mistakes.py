"""Messages about the user's mistakes on the studio's page."""

import gradio as gr

from nst.errors import UserError, of_disk


def shown(mistake: UserError | OSError | str) -> gr.Error:
    """Return the exception that shows a mistake on the page, without a traceback on the terminal."""
    if isinstance(mistake, UserError):
        mistake = "\n".join(mistake.problems)
    elif isinstance(mistake, OSError):
        mistake = of_disk(mistake)
    return gr.Error(mistake, print_exception=False)
