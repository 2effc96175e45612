"""A fake model that has one text to tell, and is asked to go on with it: the same on every wire.

Behind an assistant's turn that comes last it goes on, where its vendor's models do; a rule of the vendor's refuses it
where they don't (tests/fakes/vendors). Asked to repeat the last words, it obeys.
"""

from collections.abc import Mapping
from typing import Any

FLAGS = ("prefix", "partial")


def turns_of(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return role and text of each turn, whatever the wire."""
    turns = body.get("messages") or body.get("contents") or ()
    return [(turn["role"], _text(turn.get("content", turn.get("parts")))) for turn in turns]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


def told(text: str, body: Mapping[str, Any], *, begins_anew: bool) -> str:
    """Return what the model tells of its text. `begins_anew`: an assistant's last turn is history to it.

    SGLang#3971, tldw_chatbook#735: OpenAI's models begin anew. With a flag a server of another's goes on.
    """
    (role, last), before = turns_of(body)[-1], turns_of(body)[:-1]
    if role in ("assistant", "model"):
        flagged = body.get("continue_final_message") or any((body.get("messages") or [{}])[-1].get(f) for f in FLAGS)
        return text.removeprefix(last) if flagged or not begins_anew else text
    if before and "ended with these words:" in last:
        anchor = last.split("\n\n", 1)[1].rsplit("\n\n", 1)[0]
        at = before[-1][1].rfind(anchor)
        return text[at:] if at >= 0 and text.startswith(before[-1][1]) else text
    return text
