"""Runs laid out as the ArtFID tool reads them (Wright and Ommer 2022, arXiv:2207.12280).

ArtFID is ``(1 + LPIPS) (1 + FID)`` of sets of pictures: python -m art_fid --content_images FOLDER/content
--style_images FOLDER/style --stylized_images FOLDER/stylized. FID compares distributions, so it says nothing about a
single run.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nst import image as images
from nst.errors import UserError, count, problem
from nst.files.run_folder import RunFolder, run_folders
from nst.image import output
from nst.metrics.measure import has_style, input_picture

#: Fewer pictures than this are no set.
LEAST = 2


def lay_out(folders: Sequence[Path], to: Path) -> int:
    """Write the picture, the content and the style of each completed run in and below ``folders``; return how many.

    The three have the same name, in the folders ``stylized``, ``content`` and ``style`` of ``to``, and the content has
    the picture's size. Runs with several styles, or a style in a region, are left out.

    Raise UserError if ``to`` is there already, for fewer than ``LEAST`` runs, and if a picture can't be read. Then
    nothing is written.
    """
    if to.exists():
        raise UserError(problem("--artfid", to, "this folder already exists; choose another"))
    found = [folder for folder in map(RunFolder, run_folders(folders)[0]) if _is_complete(folder)]
    if len(found) < LEAST:
        why = f"{count(len(found), 'complete run')} with a single style; ArtFID compares sets of at least {LEAST}"
        raise UserError(problem("FOLDER", " ".join(map(str, folders)), why))
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent) as scratch:
        made = Path(scratch) / "made"
        for number, folder in enumerate(found):
            picture = images.load(folder.result, key="result")
            content, style = (input_picture(folder, name) for name in ("content", "style"))
            resized = images.resize(content, (picture.shape[-2], picture.shape[-1]))
            for kind, image in {"stylized": picture, "content": resized, "style": style}.items():
                (made / kind).mkdir(parents=True, exist_ok=True)
                output.save(image, made / kind / f"{number:06d}.png", format="png", note="")
        shutil.move(made, to)
    return len(found)


def _is_complete(folder: RunFolder) -> bool:
    return folder.read_summary().get("status") == "completed" and folder.result.is_file() and has_style(folder)
