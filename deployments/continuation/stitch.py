"""The seam: where a text goes on that another model has begun, found word for word or not at all. Pure.

A repetition is seen by its reader, a gap is not, and a text that never was is worst. So what another model says goes to
the client only once it is proven to follow what that has had: it has said the last words of it again. What is not
proven is `Unverified`, and another model is asked, or the stream ends.

    delivered  "He came, saw and conq"     what the client has had
    begun      "He came, saw and"          what the model is given
    must       " conq"                     what it must say first: no model goes on in the middle of a word

Of a model that is known to go on, one word is enough, and none where the text ended with white space. Any other has to
say more: who ignores what was given to it, and begins anew, may well begin with the same word. A text of a word or two
is asked for anew as a whole, and an answer that begins with it is one.
"""

import re
import unicodedata
from dataclasses import dataclass

LONG = 48  # characters: who says so many of the beginning again has begun anew
MOST_BEFORE = 200  # characters before the words that a model was asked to repeat
LEAST_PROOF, LEAST_WORDS = 12, 2  # signs and words that prove something
MOST_OVERLAP = 1024
_WORDS, _MOST_ANCHOR = 6, 80
_MOST_CHUNK, _SIGNS = 24, 8  # a longer run without blanks, as of Chinese, is cut behind so many signs

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)
_FENCE_LINE = re.compile(r"\s*(`{3,}|~{3,})([^\n`]*)\n")
_QUOTES = frozenset("\"'`\u00b4\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u2026")


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

    `trusted`: the model is known to go on.
    """
    text = delivered.rstrip()
    space = delivered[len(text) :]
    if trusted and space:
        return Cut(text, "", space)
    at = _last_chunk(text)
    while at > 0 and not (trusted or is_proof(text[at:])):
        at = _last_chunk(text[:at].rstrip())
    begun = text[:at].rstrip()
    return Cut(begun, text[len(begun) :], space)


def anchor_of(delivered: str) -> str:
    """Return the last words of a text, which a model is asked to say again; empty if they are too few."""
    text = delivered.rstrip()
    at = _last_chunk(text)
    for _ in range(_WORDS - 1):
        earlier = _last_chunk(text[:at].rstrip())
        if len(text) - earlier > _MOST_ANCHOR and is_proof(text[at:]):
            break
        at = earlier
    return text[at:] if is_proof(text[at:]) else ""


def is_proof(text: str) -> bool:
    """Return whether a text is long enough to be known again by: two words, or as many signs where there are none."""
    words = text.split()
    signs = sum(map(len, words))
    return signs >= LEAST_PROOF and (len(words) >= LEAST_WORDS or not text.isascii())


def _last_chunk(text: str) -> int:
    """Return where the last run of signs without a blank begins, or the last signs of a long one."""
    at = len(text)
    while at > 0 and not text[at - 1].isspace():
        at -= 1
    if len(text) - at <= _MOST_CHUNK:
        return at
    at = len(text) - _SIGNS
    while at > 0 and not _is_base(text, at):
        at -= 1
    return at


def _is_base(text: str, at: int) -> bool:
    """Return whether a sign stands for itself: no mark of the one before it, and nothing that is joined to it."""
    joined = text[at] in "\u200c\u200d" or text[at - 1] == "\u200d" or unicodedata.category(text[at])[0] in "MC"
    return not (joined or (text[at].isascii() and text[at].isalnum() and text[at - 1].isalnum()))


class Stitch:
    """Takes what a model says from its beginning, until it is known from where on the client is to get it.

    `anchor`: the words that it was asked to repeat; empty for one that goes on by itself. `repeats`: it may say all
    that it was given again. `trusted` as in `cut_for`.
    """

    def __init__(self, delivered: str, cut: Cut, *, anchor: str = "", trusted: bool = False, repeats: bool = True):
        self._delivered = delivered.strip()
        self._cut, self._anchor = cut, anchor
        self._trusted, self._repeats = trusted, repeats or not trusted
        fences = _FENCE.findall(self._delivered)
        # Of a model that is known to go on nothing is left out: the line may be a part of the text.
        self._open_fence = fences[-1] if len(fences) % 2 and not trusted else ""
        self._said = ""
        self._same = 0  # how many signs of what was said are those of the delivered text, from its begin
        self._differs = False  # whether what was said is another text than that

    def add(self, text: str, *, last: bool = False) -> str | None:
        """Return what the client gets of all that was said so far; None if that is not known yet.

        `last`: no more will be said. Raises Unverified.
        """
        self._said += text
        found = self._anchored(last=last) if self._anchor else self._continued(last=last)
        rest = None if found is None else self._without_space(found, last=last)
        if rest is None or not rest.strip():
            if last:
                raise Unverified("nothing follows")
            return None
        return rest

    def may_call_now(self) -> bool:
        """Return whether a call of a tool may follow at once: all that had to be said was said, and no more."""
        if self._anchor:
            return self._said.strip() == self._anchor
        return self._trusted and self._said.strip() == self._cut.must.strip()

    def _continued(self, *, last: bool) -> str | None:
        if (said := self._unfenced(last=last)) is None:
            return None
        if self._repeats:
            text = said.lstrip()
            self._compare(text)
            if self._same == len(self._delivered):
                return self._of_two(self._behind_must(said), text[self._same :])
            if not self._differs and not last:
                return None  # it may say all of it again
            if self._same >= LONG:
                raise Unverified("it began anew")
        follows = self._behind_must(said)
        if follows is None and (last or not self._cut.must.lstrip().startswith(said.lstrip())):
            raise Unverified("it did not go on where the text broke off")
        return follows

    def _compare(self, text: str) -> None:
        """Find out how much of the delivered text was said again. What is known to differ is not looked at again."""
        if self._differs or self._same == len(self._delivered):
            return
        most = min(len(text), len(self._delivered))
        if text[self._same : most] == self._delivered[self._same : most]:
            self._same = most
            return
        self._differs = True
        while text[self._same] == self._delivered[self._same]:
            self._same += 1

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

    def _anchored(self, *, last: bool) -> str | None:
        text = self._said.lstrip()
        self._compare(text)
        if self._same == len(self._delivered):
            obeyed = text[len(self._anchor) :] if text.startswith(self._anchor) else None
            return self._of_two(obeyed, text[self._same :])
        if not self._differs and not last:
            return None
        if self._same >= LONG:
            raise Unverified("it began anew")
        at = 0 if text.startswith(self._anchor) else text.find(f"\n{self._anchor}", 0, MOST_BEFORE + len(self._anchor))
        if at >= 0:
            return self._once(text, at, last=last)
        if not last and len(text) < MOST_BEFORE + len(self._anchor):
            return None
        if (overlap := self._overlap(text)) > 0:
            return text[overlap:]
        raise Unverified("it did not repeat the last words")

    def _once(self, text: str, at: int, *, last: bool) -> str | None:
        """Return what follows the repeated words, unless they were only quoted. None: more has to be known.

        A model that quotes them says them again soon, on a line of their own or between quotes.
        """
        end = at + (1 if at else 0) + len(self._anchor)
        rest = text[end:]
        if rest[:1] in _QUOTES or (rest[:1] == "\n" and self._anchor[-1].isalnum()):
            raise Unverified("it may have quoted the last words")
        if not last and len(rest) < (MOST_BEFORE if at else 0) + len(self._anchor):
            return None
        if self._anchor in rest[: MOST_BEFORE if at else len(self._anchor) + 2]:
            raise Unverified("it repeated the last words more than once")
        return rest

    def _overlap(self, text: str) -> int:
        """Return how much of the delivered text's end the model has said again, at its begin."""
        for size in range(min(len(text), len(self._delivered), MOST_OVERLAP), LEAST_PROOF - 1, -1):
            if self._delivered.endswith(text[:size]):
                return size if is_proof(text[:size]) else 0
        return 0

    def _without_space(self, rest: str, *, last: bool) -> str | None:
        """Return the rest without the white space that the client has had; None if more of it may come.

        Raises Unverified where the model goes on with the word that the client has had as a whole one.
        """
        space, at = self._cut.space, 0
        while at < min(len(space), len(rest)) and rest[at] == space[at]:
            at += 1
        if space and at == len(rest) and not last:
            return None
        if space and at == 0 and rest[:1].isalnum() and self._delivered[-1:].isalnum():
            raise Unverified("it went on within a word that had ended")
        return rest[at:]

    def _unfenced(self, *, last: bool) -> str | None:
        """Return what was said without the line that opens a block of code which is open already; None: not yet."""
        said, fence = self._said, self._open_fence
        head = said.lstrip()[: LONG + 1]
        if not fence or self._cut.must.lstrip().startswith(("`", "~")) or not head or head[0] != fence[0]:
            return said
        if (line := _FENCE_LINE.match(said)) is not None:
            return said[line.end() :] if line[1] == fence and line[2].strip() else said
        return said if last or len(head) > LONG else None
