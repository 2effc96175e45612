"""The frame of a line: where it begins, where it ends, and whether it is the one that was written. Pure bytes.

A line is one JSON object that begins with its instant and ends with the checksum of all before it:

    {"at":1790000000000, ... ,"crc":"9ae0daaf"}

Inside a JSON string each quotation mark is escaped, so neither the beginning nor the end can be part of what a
client has said. Whatever lies between two lines, the next one is found by its beginning: bytes that are no line, a
line that was torn or cut, a line end that was flipped. What is passed over is counted.

A version before this one wrote lines without a checksum. They are taken only from a writer that has none.
"""

import zlib
from dataclasses import dataclass, field

BEGINNING = b'{"at":'
LONGEST_LINE = 128 * 1024  # bytes
_CHECKSUM = b',"crc":"'
_END = len(_CHECKSUM) + 8 + 2


def seal(text: bytes) -> bytes:
    """Return a JSON object as a line with its checksum."""
    body = text[:-1]
    return b'%b%b%08x"}\n' % (body, _CHECKSUM, zlib.crc32(body))


def holds(line: bytes) -> bool:
    """Return whether a line without its line end is the one that was sealed."""
    checksum = b'%b%08x"}' % (_CHECKSUM, zlib.crc32(line[:-_END]))
    return line.endswith(checksum) and line.startswith(BEGINNING)


@dataclass(slots=True)
class Opened:
    """What some bytes of a journal hold.

    Attributes:
        lines: those whose checksum holds, without line ends.
        bare: those without any checksum, as an older version wrote them.
        damaged: how many pieces are neither.
    """

    lines: list[bytes] = field(default_factory=list)
    bare: list[bytes] = field(default_factory=list)
    damaged: int = 0


def open_lines(data: bytes) -> Opened:
    """Return all lines in these bytes of one writer."""
    found = Opened()
    for text in data.removesuffix(b"\n").split(b"\n") if data else ():
        if holds(text):
            found.lines.append(text)
        elif text.startswith(BEGINNING) and text.count(BEGINNING) == 1 and _CHECKSUM not in text:
            found.bare.append(text)
        else:
            _salvage(text, found)
    if found.lines and found.bare:
        found.damaged += len(found.bare)
        found.bare = []
    return found


def _salvage(text: bytes, found: Opened) -> None:
    """Find the whole lines in what is not one: bytes before a line, or lines whose ends are gone."""
    before, *pieces = text.split(BEGINNING)
    found.damaged += bool(before) or not pieces
    for piece in pieces:
        line = BEGINNING + piece
        end = line.find(_CHECKSUM) + _END
        if end >= _END and holds(line[:end]):
            found.lines.append(line[:end])
            found.damaged += end < len(line)
        else:
            found.damaged += 1


def take_lines(data: bytes, *, more: bool) -> tuple[bytes, int]:
    """Return what to take of these bytes, with a line end behind it, and how many of them that are."""
    end = end_of_lines(data, more=more)
    taken = data[:end]
    return taken if taken.endswith(b"\n") else taken + b"\n", end


def end_of_lines(data: bytes, *, more: bool) -> int:
    """Return how many of these bytes to take as whole lines, more than none if there are any.

    `more`: further bytes follow them. Bytes without any line end are no line of ours, which is shorter: they are
    taken up to where a line may begin.
    """
    if end := data.rfind(b"\n") + 1:
        return end
    if not more:
        return len(data)
    if (begins := data.rfind(BEGINNING, 1)) > 0:
        return begins
    return max(1, len(data) - len(BEGINNING) + 1)
