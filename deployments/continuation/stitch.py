"""The seam: where a text goes on that another model has begun, found word for word or not at all. Pure.

A repetition is seen by its reader, a gap is not, and a text that never was is worst. So what another model says goes to
the client only once it is proven to follow what that has had: it has said the last word of it again, or it was asked in
a way that is known to go on. What is not proven is `Unverified`, and another model is asked, or the stream ends.

    delivered  "He came, saw and conq"     what the client has had
    begun      "He came, saw and"          what the model is given
    must       " conq"                     what it must say first: no model goes on in the middle of a word
"""

import re
from dataclasses import dataclass

LONG = 48  # characters: who says so many of the beginning again has begun anew
MOST_BEFORE = 200  # characters before the words that a model was asked to repeat
LEAST_OVERLAP, LEAST_WORDS = 12, 2
_WORDS, _MOST_ANCHOR = 6, 80

# Scripts without blanks between words: each sign stands for itself.
_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_LAST_WORD = re.compile(rf"(?:\s*[^\W{_ALONE}]+|[{_ALONE}])$")
_LAST_CHUNK = re.compile(r"\s*\S+$")
_FENCE = re.compile(r"^ {0,3}(```|~~~)", re.MULTILINE)
_FENCE_LINE = re.compile(r"\s*(```|~~~)[^\n`]*\n")


class Unverified(Exception):
    """What a model says is not known to follow what the client has had."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a text is cut for a model that goes on behind it."""

    begun: str
    must: str
    space: str  # the white space with which the delivered text ends


def cut_for(delivered: str, *, trusted: bool) -> Cut:
    """Return what to give to a model, and what it must say first.

    `trusted`: the model is known to go on. It must still repeat a word, but only one that may be a part of a word.
    """
    text = delivered.rstrip()
    found = _LAST_WORD.search(text) if text == delivered else None
    if found is None and not trusted:
        found = _LAST_CHUNK.search(text)
    at = len(text) if found is None else found.start()
    begun = text[:at].rstrip()
    return Cut(begun, text[len(begun) :], delivered[len(text) :])


def anchor_of(delivered: str) -> str:
    """Return the last words of a text, which a model is asked to say again."""
    words = re.findall(r"\S+\s*", delivered.rstrip())[-_WORDS:]
    while len(words) > 1 and sum(map(len, words)) > _MOST_ANCHOR:
        del words[0]
    return "".join(words)[-_MOST_ANCHOR:]


class Stitch:
    """Takes what a model says from its beginning, until it is known from where on the client is to get it.

    `anchor`: the words that it was asked to repeat; empty for one that goes on by itself.
    """

    def __init__(self, delivered: str, cut: Cut, *, anchor: str = "", trusted: bool = False, repeats: bool = True):
        self._delivered = delivered.strip()
        self._cut, self._anchor = cut, anchor
        self._trusted, self._repeats = trusted, repeats
        self._said = ""

    def add(self, text: str, *, last: bool = False) -> str | None:
        """Return what the client gets of all that was said so far; None if that is not known yet.

        `last`: no more will be said. Raises Unverified.
        """
        self._said += text
        found = self._anchored(last=last) if self._anchor else self._continued(last=last)
        rest = None if found is None else self._without_space(found, last=last)
        if last and (rest is None or not rest.strip()):
            raise Unverified("nothing follows")
        return rest

    def may_call_now(self) -> bool:
        """Return whether a call of a tool may follow at once: nothing more had to be said."""
        return self._trusted and not self._cut.must and not self._said.strip()

    def _continued(self, *, last: bool) -> str | None:
        said = self._unfenced(self._said, last=last)
        if said is None:
            return None
        follows = self._behind_must(said)
        if self._repeats or not self._trusted:
            text = said.lstrip()
            again = _shared(text, self._delivered)
            if again == len(self._delivered):
                return self._of_two(follows, text[again:])
            if again == len(text) and not last:
                return None  # it may say all of it again
            if again >= LONG:
                raise Unverified("it began anew")
        if follows is None and (last or not self._may_follow(said)):
            raise Unverified("it did not go on where the text broke off")
        return follows

    def _of_two(self, follows: str | None, behind_all: str) -> str:
        """Return what follows where all that was delivered was said again, unless it may have gone on by itself.

        Texts that repeat themselves can be read both ways.
        """
        if follows not in (None, behind_all) and not self._trusted:
            raise Unverified("it may have begun anew, or gone on")
        return behind_all

    def _behind_must(self, said: str) -> str | None:
        """Return what stands behind the text that must come first; None if that is not there."""
        must = self._cut.must.lstrip()
        if not must:
            return said
        text = said.lstrip()
        return text[len(must) :] if text.startswith(must) else None

    def _may_follow(self, said: str) -> bool:
        return self._cut.must.lstrip().startswith(said.lstrip())

    def _anchored(self, *, last: bool) -> str | None:
        said = self._said
        text = said.lstrip()
        again = _shared(text, self._delivered)
        if again == len(self._delivered):
            return self._of_two(text.removeprefix(self._anchor), text[again:])
        if again == len(text) and not last:
            return None
        if again >= LONG:
            raise Unverified("it began anew")
        if (at := self._anchor_in(text)) is not None:
            return text[at:]
        if not last and len(text) < MOST_BEFORE + len(self._anchor):
            return None
        if (overlap := self._overlap(text)) > 0:
            return text[overlap:]
        raise Unverified("it did not repeat the last words")

    def _anchor_in(self, text: str) -> int | None:
        """Return where the repeated words end.

        Behind other words they count only at the begin of a line, and if they are enough to be known by: a model may
        quote them before it goes on.
        """
        anchor = self._anchor
        if text.startswith(anchor):
            return len(anchor)
        if len(anchor.replace(" ", "")) < LEAST_OVERLAP or len(anchor.split()) < LEAST_WORDS:
            return None
        at = text.find(f"\n{anchor}", 0, MOST_BEFORE + len(anchor))
        return None if at < 0 else at + 1 + len(anchor)

    def _overlap(self, text: str) -> int:
        """Return how much of the delivered text's end the model has said again, at its begin."""
        for size in range(min(len(text), len(self._delivered)), LEAST_OVERLAP - 1, -1):
            part = text[:size]
            if self._delivered.endswith(part) and len(part.split()) >= LEAST_WORDS:
                return size if len("".join(part.split())) >= LEAST_OVERLAP else 0
        return 0

    def _without_space(self, rest: str, *, last: bool) -> str | None:
        """Return the rest without the white space that the client has had; None if more of it may come."""
        space, at = self._cut.space, 0
        while at < min(len(space), len(rest)) and rest[at] == space[at]:
            at += 1
        if space and at == len(rest) and not last:
            return None
        return rest[at:]

    def _unfenced(self, said: str, *, last: bool) -> str | None:
        """Return what was said without the line that opens a block of code which is open already; None: not yet."""
        opened = _FENCE.findall(self._delivered)
        if len(opened) % 2 == 0 or self._cut.must.lstrip().startswith(("`", "~")):
            return said
        head = said.lstrip()
        if head[:3] not in (opened[-1], opened[-1][: len(head)]):
            return said
        if (line := _FENCE_LINE.match(said)) is not None:
            return said[line.end() :] if line[1] == opened[-1] and head[3:4] != "\n" else said
        return said if last or len(head) > LONG else None


def _shared(text: str, other: str) -> int:
    """Return how many characters two texts have alike at their begin."""
    most = min(len(text), len(other))
    if text[:most] == other[:most]:
        return most
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if text[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
