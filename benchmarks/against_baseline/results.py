"""Measurements in a JSON file, a record a line, each kept as soon as it is made."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nst.files.atomic import write_text
from nst.run import provenance

Record = dict[str, Any]


class Results:
    """What was measured, by part and key.

    Args:
        path: the file; what it holds already is kept.
        command: how this was started, for the records.
        device: what measures.
        again: measure anew what the file has.
    """

    def __init__(
        self, path: Path, *, command: str = "", device: torch.device | None = None, again: bool = False
    ) -> None:
        self.path = path
        self.command = command
        self.device = device or torch.device("cpu")
        self.again = again
        self.records: list[Record] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

    def of(self, part: str) -> list[Record]:
        """All records of a part, oldest first."""
        return [record for record in self.records if record["part"] == part]

    def find(self, part: str, key: Mapping[str, Any]) -> Record | None:
        """The record that was made earlier."""
        return next((record for record in self.of(part) if record["key"] == key), None)

    def done(self, part: str, key: Mapping[str, Any]) -> bool:
        """Whether there is nothing to measure; says so."""
        if self.again or self.find(part, key) is None:
            return False
        print(f"{part} {' '.join(map(str, key.values()))}: kept from {self.path}; --again measures it anew", flush=True)
        return True

    def keep(self, part: str, key: Mapping[str, Any], values: Mapping[str, Any]) -> Record:
        """Writes a record, in the place of an earlier one with the same key."""
        made = provenance.of_machine(self.device)
        record = {
            "part": part,
            "key": dict(key),
            "values": dict(values),
            "command": self.command,
            "date": datetime.now(UTC).isoformat(timespec="minutes"),
            "machine": {
                "processor": provenance.processor(),
                "cores": os.cpu_count(),
                "threads": made["threads"],
                "torch": torch.__version__,
                "device": made["device"],
                "git_commit": made["git_commit"],
            },
        }
        self.records = [old for old in self.records if (old["part"], old["key"]) != (part, record["key"])] + [record]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, "[\n" + ",\n".join(json.dumps(each) for each in self.records) + "\n]\n")
        return record


def place(device: torch.device) -> dict[str, Any]:
    """The part of a key that says on what was measured: times on other devices don't compare."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "threads": torch.get_num_threads()}


def described(key: Mapping[str, Any]) -> str:
    """Our configuration in a key: the precision, and the other overrides."""
    others = [override for override in key["overrides"] if not override.startswith("precision=")]
    return " ".join([f"precision={key['precision']}", *others])
