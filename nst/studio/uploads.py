"""Pictures that were dropped onto the page: checked as any picture is, bounded, and removed after a time."""

import re
import shutil
import time
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

from nst.errors import UserError, problem
from nst.files.atomic import replacing, sha256
from nst.image import reading

#: Bytes that a dropped file may have, the number of files that are kept, and the seconds for which they are.
MOST_BYTES = 64_000_000
MOST_FILES = 100
KEPT = 24 * 3600.0


class Uploads:
    """The pictures that were dropped onto the page, in a folder, each named after the user's file and its SHA-256.

    Args:
        folder: the folder, which is made when the first picture comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep_dropped(self, dropped: Mapping[str, Any], *, key: str) -> Path:
        """Keep a copy of a picture that was dropped onto a field of Gradio's; return its path.

        Raise UserError, with ``key`` and the user's name of the file in it, if it is no picture or too large.
        """
        file = Path(dropped["path"])
        return self.keep(file, key=key, name=dropped.get("orig_name") or file.name)

    def keep(self, file: Path, *, key: str, name: str | None = None) -> Path:
        """Keep a copy of a picture file; return its path. Of the file's own name it has the first letters and digits.

        Raise UserError, with ``key`` and the file's ``name`` in it, if it is no picture or too large.
        """
        name = name or file.name
        if file.stat().st_size > MOST_BYTES:
            raise UserError(problem(key, name, f"has more than {MOST_BYTES // 10**6} MB"))
        try:
            reading.read(file, key=key)
        except UserError as error:
            raise UserError([line.replace(str(file), name) for line in error.problems]) from None
        return self._keep(file, name)

    def keep_mask(self, mask: Image.Image) -> Path:
        """Keep a mask, as a PNG; return its path."""
        with TemporaryDirectory() as folder:
            file = Path(folder, "mask.png")
            mask.convert("L").save(file)
            return self._keep(file, file.name)

    def forget(self) -> None:
        """Remove the files that have been kept for long enough, and the oldest ones if there are too many."""
        if not self.folder.is_dir():
            return
        dated = []
        for path in self.folder.iterdir():
            with suppress(OSError):  # another thread has removed it
                dated.append((path.stat().st_mtime, path))
        for number, (changed, path) in enumerate(sorted(dated, reverse=True)):
            if number >= MOST_FILES - 1 or time.time() - changed > KEPT:
                with suppress(OSError):
                    path.unlink()

    def _keep(self, file: Path, name: str) -> Path:
        self.forget()
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = self.folder / _kept_name(name, sha256(file))
        with replacing(kept) as temporary:
            shutil.copyfile(file, temporary)
        return kept

    def move_into(self, words: list[str], folder: Path) -> list[str]:
        """Copy the uploads that overrides name into a run's folder; return the overrides with their paths there.

        The copies have their own names, without the digests, unless two of them would have the same.
        """
        moved = []
        for word in words:
            value = word.partition("=")[2]
            path = Path(value.strip("'\""))
            if path.parent == self.folder and path.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                plain = folder / re.sub(r"-[0-9a-f]{8}(?=\.\w+$|$)", "", path.name)
                kept = folder / path.name if plain.exists() else plain
                shutil.copyfile(path, kept)
                word = word.replace(str(path), str(kept))
            moved.append(word)
        return moved


def _kept_name(name: str, digest: str) -> str:
    """Return a file's name without what could mean something to a shell or a system, and with a part of its digest.

    The name of a run has it, so it is short.
    """
    path = Path(unicodedata.normalize("NFC", name))
    stem = re.sub(r"[\W_]+", "_", path.stem)[:11].strip("_")
    suffix = path.suffix if re.fullmatch(r"\.\w{1,5}", path.suffix, re.ASCII) else ""
    return f"{stem}-{digest[:8]}{suffix}" if stem else f"{digest[:20]}{suffix}"
