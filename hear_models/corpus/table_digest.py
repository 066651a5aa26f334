"""A digest over what a table of embeddings holds: the format's own checksums cover its pages alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hear_models.errors import FileError
from hear_models.foreign import open_plain, reading

KEY = b"hear_models"  # of the settings, in the schema's metadata
DIGEST = "hear_models_sha256"  # of the digest, in the file's metadata
WITHOUT = "it has no digest, so another version or another program wrote it"


class ColumnDigests:
    """sha256 of each column's values, whatever groups they come in."""

    def __init__(self) -> None:
        self._columns: dict[str, Any] = {}

    def add(self, table: Any) -> None:
        """The next rows: an Arrow table."""
        for name in table.column_names:
            digest = self._columns.setdefault(name, hashlib.sha256())
            for chunk in table.column(name).chunks:
                for part in _values(chunk):
                    digest.update(part)

    def hexdigest(self, settings: bytes) -> str:
        """Of all columns and of the settings."""
        total = hashlib.sha256(settings)
        for name, digest in self._columns.items():
            total.update(f"\n{name} {digest.hexdigest()}".encode())
        return total.hexdigest()


def _values(chunk: Any) -> Iterator[bytes]:
    import pyarrow

    if chunk.null_count:
        raise ValueError("a value is missing")
    if pyarrow.types.is_string(chunk.type):
        for text in chunk.to_pylist():
            yield text.encode() + b"\0"
    elif pyarrow.types.is_fixed_size_list(chunk.type):
        yield np.ascontiguousarray(chunk.flatten().to_numpy(zero_copy_only=False)).tobytes()
    else:
        yield np.ascontiguousarray(chunk.to_numpy(zero_copy_only=False)).tobytes()


def verified_groups(file: Path) -> Iterator[Any]:
    """The row groups of a table; after the last one ValueError if its content is not what was written."""
    import pyarrow.parquet

    with open_plain(file) as handle, pyarrow.parquet.ParquetFile(handle, page_checksum_verification=True) as reader:
        metadata = reader.metadata.metadata or {}
        written, digest = metadata.get(DIGEST.encode()), ColumnDigests()
        if written is None:
            raise ValueError(WITHOUT)
        for index in range(reader.num_row_groups):
            group = reader.read_row_group(index)
            digest.add(group)
            yield group
        if digest.hexdigest((reader.schema_arrow.metadata or {}).get(KEY, b"")).encode() != written:
            raise ValueError("its content does not match its digest")


def verify_table(file: Path) -> int:
    """The rows of a table whose every value is as it was written; FileError otherwise."""
    with reading(file, FileError, "Embed the recordings again with --overwrite.", what="a table of embeddings"):
        return sum(len(group) for group in verified_groups(file))
