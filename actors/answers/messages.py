"""What crosses between an ingress replica and the answers actor. Pure types.

Keys are wire words: replicas and actors of different versions talk to each other during a rolling deploy. So a key
keeps its name and its meaning; a new one is `NotRequired`.
"""

from collections.abc import Mapping
from typing import TypedDict


class Head(TypedDict):
    """How an HTTP answer begins. Names and values are as ASGI has them."""

    status: int
    headers: list[tuple[bytes, bytes]]


Item = Head | bytes  # of an answer: its head, then the bytes of its body


class LedRun(TypedDict):
    """A run that a replica leads: it asks the providers, and others may read its answer."""

    fingerprint: str  # of the request
    run: str


class Claimed(TypedDict):
    """The answer to `claim`.

    Who claims is to `lead` (its request is the first, or the replica of the first is gone: then `lost` is true), may
    `join` the run, has another request under the same key (`other`), or there is `none` to join.
    """

    state: str
    run: str
    lost: bool
    ended: bool  # of a run to join: its whole answer is there


class Heard(TypedDict):
    """The answer to `read`: new items of a run, and whether they are its last ones."""

    items: list[Item]
    ended: bool
    gone: bool  # nobody gives this answer any more: its replica is gone, or what was kept is


class AnswersWhoAmI(TypedDict):
    """The answer to `hello` and `whoami`. `code` is the fingerprint of the source that the actor runs."""

    pid: int
    code: str


LeadingByKey = Mapping[str, LedRun]
