"""Random access to a file or to bytes, so that walks over untrusted files stay bounded."""

import os
from collections.abc import Iterator
from typing import BinaryIO


class Source:
    """A seekable binary file of known size; short reads mean the end of the file.

    Not safe to share between threads: it moves the file's position.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = file.seek(0, os.SEEK_END)

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer at the end, none beyond it."""
        if offset >= self.size or count <= 0:
            return b""
        self._file.seek(offset)
        return self._file.read(min(count, self.size - offset))

    def chunks(self, offset: int, overlap: int) -> Iterator[tuple[int, bytes]]:
        """Pieces of the rest of the file with their offsets; neighbours share `overlap` bytes.

        They grow from 4 KiB to 1 MiB, so a search costs a few times what it passes over.
        """
        size = 4096
        while offset < self.size:
            piece = self.read_at(offset, size + overlap)
            if not piece:
                return
            yield offset, piece
            offset += size
            size = min(2 * size, 1 << 20)
