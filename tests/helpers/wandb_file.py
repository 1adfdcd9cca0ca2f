"""Reader of the file that an offline run of Weights & Biases writes: a log of LevelDB's format, of protobuf records."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 32768  # bytes
FULL, LAST = 1, 4  # parts of a record that end it


def records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the kind and the content of every record."""
    from wandb.proto import wandb_internal_pb2  # takes a second

    data, at, whole = path.read_bytes(), HEADER, b""
    assert data.startswith(b":W&B")
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER:  # the rest of a block is empty
            at += left
            continue
        _, length, part = struct.unpack("<IHB", data[at : at + HEADER])
        at += HEADER
        whole += data[at : at + length]
        at += length
        if part in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            kind = record.WhichOneof("record_type")
            yield kind, getattr(record, kind)
            whole = b""
