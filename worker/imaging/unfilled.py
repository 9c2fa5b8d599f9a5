"""Tell native pixels that are still being copied from a film with a black margin.

Some copiers (Windows Explorer onto a share, rsync --preallocate) give a file its whole size first
and fill it then. If they pause for longer than a film takes to settle, the rest is zeros, which is
a picture like any other.
"""

from worker.imaging.source import Source

_BLOCK = 4096  # bytes: copiers write multiples of it, from the start of the file
_SLACK = 1  # the last sample's high byte may be zero
_MOST_ZEROS = 0.6  # of the row above, beyond the break: high bytes of 12-bit samples are often 0
_CHUNK = 1 << 16


def pixels_break_off(source: Source, start: int, length: int, rows: int) -> bool:
    """Whether native pixel data of `length` bytes from `start` breaks off in the middle of a row.

    It does when zeros go from a block boundary of the file to the end of the pixels, for a row at
    least, while the row above goes on beyond that place. A black margin seldom begins at a
    boundary (1 of 2000), and then the row above is black there too, unless the margin is slanted.
    """
    row = length // rows if rows else 0
    first = _first_of_last_zeros(source, start, start + length)
    first += -first % _BLOCK if -first % _BLOCK <= _SLACK else 0
    column = (first - start) % row if row else 0
    if first % _BLOCK or not column or first - start < row or start + length - first < row:
        return False
    above = source.read_at(first - row, row - column)
    return above.count(0) < _MOST_ZEROS * len(above)


def _first_of_last_zeros(source: Source, start: int, end: int) -> int:
    """Where the zeros begin that go on to `end`; `end` if there are none."""
    while end > start:
        begin = max(start, end - _CHUNK)
        filled = len(source.read_at(begin, end - begin).rstrip(b"\0"))
        if filled:
            return begin + filled
        end = begin
    return start
