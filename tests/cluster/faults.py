"""Every way a call can end: each fault, what is done to the provider, and what its client must see.

S01 to S16 are the faults of the neutral Failover Bench. A fault is a function of a `Case`: one wire, one
door, streamed or not. Whatever it does, an answer that claims to be whole is whole, and one that is not
has a typed error (`Case.ask` sees to that). The local model has no wire to break: its faults are its own.
"""

import contextlib
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.conftest import AFTER, CLOUDS, GPU, LIMITS, SOON, THEIRS, WINDOWS, WIRES, Cluster, eventually
from tests.cluster.doors import Doors
from tests.cluster.replies import APIS, Reply
from tests.fakes.anthropic_wire import AnthropicWire
from tests.fakes.bedrock_wire import event
from tests.fakes.server import Behaviour, FakeServer, status

ERROR_FIELDS = frozenset({"message", "type", "code"})
LATE = 0.5  # seconds that an answer may come after the limit that held it up
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
# Frames before the first with content.
OPENING = {"aws_bedrock": 1, "openai": 1, "google_genai": 0, "anthropic": 1, GPU: 1}
MODELS = {"aws_bedrock": "global.anthropic.claude-haiku-4-5-20251001-v1:0", "openai": "gpt-5.4-mini"}
MODELS |= {"google_genai": "gemini-3.8-flash", "anthropic": "claude-haiku-4-5-20251001", "local": "smollm2-135m"}
MODELS |= {GPU: THEIRS}
OF_OPENAI = ("openai", GPU)  # who tell their errors in its words


@dataclass
class Case:
    llm: Cluster
    doors: Doors
    wire: str
    stream: bool
    door: str
    seconds: float | None = None  # from the first request to the end of its answer
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def fake(self) -> FakeServer:
        return self.llm.fakes[self.wire]

    @property
    def next(self) -> str:
        return AFTER[self.wire]

    @property
    def limit(self) -> float:
        """How long a silent first attempt may take: nothing can be heard of a whole answer before it is there."""
        return float(LIMITS["first_token"] if self.stream else LIMITS["timeout_seconds"])

    def most(self, seconds: float) -> float:
        """How long an answer may take that should come within so many; where no limit is as short, longer."""
        return seconds if self.llm.hasty else SOON

    def request(self, **body: Any) -> dict[str, Any]:
        return {"model": f"first-{self.wire}", "stream": self.stream, "messages": QUESTION, **body}

    def ask(self, *, timeout: float | None = None, **body: Any) -> Reply:
        reply = self.doors.ask(self.door, self.request(**body), timeout)
        self.seconds = reply.seconds if self.seconds is None else self.seconds
        assert reply.whole != (reply.error is not None), f"neither whole nor an error: {reply}"
        if reply.whole:
            assert reply.status == 200
            if reply.finish == "stop" and reply.provider in WIRES:
                assert reply.text == "".join(self.llm.fakes[reply.provider].words), "truncated, and sealed as whole"
        else:
            assert reply.error is not None
            fields = APIS[self.door].error_fields if self.door in APIS and reply.status == 200 else ERROR_FIELDS
            assert fields <= set(reply.error)
            assert not reply.done, "an error was sealed as a whole answer"
        return reply

    def ask_next(self, attempts: int = 2, within: float = 2.0, **body: Any) -> Reply:
        """The next one answers, whole."""
        reply = self.ask(**body)
        assert reply.whole, reply
        assert (reply.provider, reply.attempts) == (self.next, attempts)
        assert reply.seconds < self.most(within), f"{reply.seconds:.2f} s"
        return reply

    def ask_broken(self, kind: str, within: float = 2.0, code: str = "stream_interrupted") -> Reply:
        """Content came, then a typed error; the next one was not asked to go on."""
        calls = len(self.llm.fakes[self.next].received)
        reply = self.ask()
        self.was_broken(reply, kind, code)
        assert reply.seconds < self.most(within), f"{reply.seconds:.2f} s"
        assert len(self.llm.fakes[self.next].received) == calls
        return reply

    def was_broken(self, reply: Reply, kind: str, code: str = "stream_interrupted") -> None:
        """Responses have codes of OpenAI's own list."""
        assert reply.error is not None, reply
        if self.door == "responses":
            code = "rate_limit_exceeded" if kind == "throttled" else "server_error"
        assert (reply.error["code"], reply.trail) == (code, [kind])

    def health(self) -> dict[str, Any]:
        return dict(self.llm.get(f"/v1/providers/{self.wire}"))

    def unmoved(self) -> None:
        health = self.health()
        assert (health["state"], health["consecutive_failures"]) == ("closed", 0)

    def healthy_again(self) -> None:
        """It is alive after all that."""
        self.fake.reset()
        self.llm.command("reset", self.wire)
        eventually(lambda: self.ask().provider == self.wire)


Check = Callable[[Case], None]


@dataclass(frozen=True)
class Fault:
    code: str
    what: str
    check: Check
    wires: tuple[str, ...]
    streams: tuple[bool, ...]
    slow: bool  # waits for a limit of seconds


FAULTS: list[Fault] = []
LONG_STORY = [{"role": "user", "content": "Tell me a very long story."}]  # the local model's fills 900 tokens


def unread(word: str) -> dict[str, Any]:
    """A prompt that takes the local model a second or more: no part of it is in its cache."""
    return {"messages": [{"role": "user", "content": f"{secrets.token_hex(4)} {word} " * 150}], "max_tokens": 100}


BOTH, PLAIN, STREAMED = (False, True), (False,), (True,)


def fault(
    code: str,
    what: str,
    *,
    wires: tuple[str, ...] = WIRES,
    streams: tuple[bool, ...] = BOTH,
    slow: bool = False,
) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        FAULTS.append(Fault(code, what, check, wires, streams, slow))
        return check

    return add


# The sixteen.


@fault("S01", "429 with Retry-After: 2, once", slow=True)
def throttled_once(c: Case) -> None:
    c.fake.script = [status(429, retry_after="2")]
    began = time.monotonic()
    c.ask_next()
    while time.monotonic() < began + 1.8:
        c.ask_next(attempts=1)
        assert len(c.fake.received) == 1, "called again before its time"
        time.sleep(0.2)
    eventually(lambda: c.ask().provider == c.wire, 5)


@fault("S02", "429 without a delay, persistent", slow=True)
def throttled(c: Case) -> None:
    c.fake.behave = status(429)
    c.ask_next()
    for _ in range(6):
        time.sleep(0.5)
        c.ask_next(attempts=1)
    assert len(c.fake.received) == 1


@fault("S03", "one 500")
def one_500(c: Case) -> None:
    c.fake.script = [status(500)]
    c.ask_next()
    assert c.ask().provider == c.wire


@fault("S04", "503, persistent", slow=True)
def down(c: Case) -> None:
    c.fake.behave = status(503)
    for _ in range(3):
        c.ask_next()
    began = time.monotonic()
    while time.monotonic() < began + 5:
        assert c.ask().provider == c.next
        # recovery_timeout is 2 s here, and doubles.
        assert len(c.fake.received) <= 3 + (time.monotonic() - began) / 2, "more than probes"
        time.sleep(0.1)
    assert len(c.fake.received) > 3, "nobody ever probed"


@fault("S05", "reset before the headers")
def reset(c: Case) -> None:
    c.fake.behave = Behaviour("reset")
    c.ask_next()


@fault("S06", "no byte at all", slow=True)
def silent(c: Case) -> None:
    c.fake.behave = Behaviour("hang")
    c.ask_next(within=c.limit + LATE)
    assert len(c.fake.received) == 1
    assert c.fake.received[0].gone.wait(1), "the silent call was kept"


@fault("S07", "headers at once, no first token", slow=True)
def slow_first_token(c: Case) -> None:
    c.fake.behave = Behaviour("stall", after=OPENING[c.wire])
    c.ask_next(within=c.limit + LATE)
    assert c.fake.received[0].gone.wait(1), "the silent call was kept"


@fault("S07", "all slots of the local model are taken", wires=("local",), slow=True)
def no_slot(c: Case) -> None:
    """It waits for half of its limit (4 s for a first token, 20 s for a whole answer), and is not to blame."""
    story = {**c.request(messages=LONG_STORY, max_tokens=900), "stream": True}
    with (
        c.doors.left_alone("http", story, after_content=True),
        c.doors.left_alone("http", story, after_content=True),
    ):
        c.ask_next(within=(2 if c.stream else 10) + LATE)
    c.unmoved()


@fault("S08", "cut after 40 of 60 tokens")
def cut(c: Case) -> None:
    c.fake.words = [f" word{n}" for n in range(60)]
    c.fake.behave = Behaviour("cut", after=OPENING[c.wire] + 40, pace=0.005)
    if not c.stream:
        c.ask_next()
        return
    reply = c.ask_broken("broken")
    assert "".join(c.fake.words).startswith(reply.text)
    assert reply.text.count("word") > 10


@fault("S09", "20 tokens, then silence", slow=True)
def stalled(c: Case) -> None:
    c.fake.words = [f" word{n}" for n in range(60)]
    c.fake.behave = Behaviour("stall", after=OPENING[c.wire] + 20)
    if not c.stream:
        c.ask_next(within=c.limit + LATE)
        return
    reply = c.ask_broken("idle", within=LIMITS["idle"] + LATE)
    assert reply.text == "".join(c.fake.words[:20])


@fault("S10", "a malformed chunk, then the rest", streams=STREAMED)
def malformed_chunk(c: Case) -> None:
    c.fake.behave = Behaviour("malformed", after=OPENING[c.wire])
    c.ask_next()
    c.fake.behave = Behaviour("malformed", after=OPENING[c.wire] + 2)
    c.ask_broken("malformed")
    c.healthy_again()


@fault("S11", "no terminal marker", streams=STREAMED, slow=True)
def no_marker(c: Case) -> None:
    frames, closing = len(c.fake.vendor.frames(c.fake.words)), c.fake.vendor.closing()
    c.fake.behave = Behaviour("no_end")
    c.ask_broken("broken")
    c.fake.behave = Behaviour("stall", after=max(frames - closing, OPENING[c.wire] + 1))
    c.ask_broken("idle", within=LIMITS["idle"] + LATE)
    c.fake.behave = Behaviour("stall", after=frames - closing + 1)
    reply = c.ask()
    assert (reply.whole, reply.provider) == (True, c.wire), "the finish reason came: it is whole"
    assert reply.seconds < LIMITS["idle"] + LATE


TOO_LONG = {
    "aws_bedrock": status(400, "ValidationException"),
    "openai": status(400, "context_length_exceeded"),
    "google_genai": status(400),
    "anthropic": status(400),
}
TOO_LONG |= {GPU: TOO_LONG["openai"]}
TOO_LONG_WORDS = {
    "aws_bedrock": "Input is too long for requested model.",
    "openai": "This model's maximum context length is 400000 tokens.",
    "google_genai": "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
    "anthropic": "prompt is too long: 208310 tokens > 200000 maximum",
}
TOO_LONG_WORDS |= {GPU: TOO_LONG_WORDS["openai"]}


def too_long(c: Case) -> dict[str, Any]:
    """What makes this tier say that a prompt is too long."""
    if c.wire == "local":
        return {"messages": [{"role": "user", "content": "word " * 4000}]}
    b = TOO_LONG[c.wire]
    c.fake.behave = Behaviour("status", status=b.status, code=b.code, message=TOO_LONG_WORDS[c.wire])
    return {}


@fault("S12", "context length exceeded, nobody else to ask", wires=(*WIRES, "local"))
def too_long_alone(c: Case) -> None:
    reply = c.ask(model=f"{c.wire}/{MODELS[c.wire]}", **too_long(c))
    assert reply.error is not None
    assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
    assert c.wire == "local" or len(c.fake.received) == 1
    c.unmoved()


@fault("S12", "context length exceeded, a larger window next or none", wires=(*WIRES, "local"))
def too_long_for_the_first(c: Case) -> None:
    body = too_long(c)
    if c.wire != GPU and WINDOWS[c.next] > WINDOWS.get(c.wire, 2048):
        c.ask_next(**body)
    else:
        reply = c.ask(**body)
        assert reply.error is not None
        assert (reply.status, reply.error["code"]) == (400, "context_length_exceeded")
        assert c.llm.fakes[c.next].received == []
    c.unmoved()


def blocked(c: Case) -> Behaviour:
    """Each vendor's way to refuse by policy: OpenAI with a 400, the others with an answer that says so."""
    if c.wire in OF_OPENAI:
        return status(400, "content_policy_violation")
    if c.wire == "google_genai":
        body = b'{"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}'
        return _either(body, b"data: " + body + b"\r\n\r\n", "text/event-stream")
    if c.wire == "anthropic":
        words = b"".join(AnthropicWire().frames([])).replace(b'"end_turn"', b'"refusal"')
        return _either(json.dumps(AnthropicWire().message([], "refusal")).encode(), words, "text/event-stream")
    parts = [event("messageStart", {"role": "assistant"}), event("messageStop", {"stopReason": "content_filtered"})]
    body = b'{"output": {"message": {"role": "assistant", "content": []}}, "stopReason": "content_filtered"}'
    return _either(body, b"".join(parts), "application/vnd.amazon.eventstream")


def _either(whole: bytes, stream: bytes, content_type: str) -> Behaviour:
    """These bytes, whole or as a stream: a whole answer may be asked for as either."""
    return Behaviour("raw", raw=whole, streamed=Behaviour("raw", raw=stream, content_type=content_type))


@fault("S13", "content policy")
def content_policy(c: Case) -> None:
    c.fake.behave = blocked(c)
    reply = c.ask()
    if c.wire in OF_OPENAI:
        assert reply.error is not None
        assert (reply.status, reply.error["code"]) == (400, "content_policy_violation")
    else:
        assert (reply.finish, reply.provider, reply.attempts) == ("content_filter", c.wire, 1)
    assert len(c.fake.received) == 1
    assert c.llm.fakes[c.next].received == []
    c.unmoved()


@fault("S14", "cut, and the next refuses with a 400", wires=CLOUDS)
def cut_and_refused(c: Case) -> None:
    c.fake.behave = Behaviour("cut", after=OPENING[c.wire] + 3, pace=0.01)
    c.llm.fakes[c.next].behave = Behaviour("status", status=400, message="no assistant prefill here")
    if c.stream:
        c.ask_broken("broken")
        return
    reply = c.ask()
    assert reply.error is not None
    assert reply.status == 503
    assert reply.trail[0] in ("broken", "malformed")
    assert reply.trail[1] == "rejected"
    assert "prefill" not in reply.error["message"]


@fault("S16", "the accounts after a failover", wires=(*WIRES, "local"))
def accounts(c: Case) -> None:
    options = {"stream_options": {"include_usage": True}} if c.stream else {}
    if c.wire == "local":
        reply = c.ask(max_tokens=4, **options)
        assert (reply.provider, reply.attempts) == ("local", 1)
        assert reply.usage is not None
        assert (reply.usage["prompt_tokens"] > 10, reply.usage["completion_tokens"]) == (True, 4)
        return
    c.fake.script = [status(500)]
    reply = c.ask_next(**options)
    assert reply.usage is not None
    assert [reply.usage[k] for k in ("prompt_tokens", "completion_tokens", "total_tokens")] == [7, 5, 12]


# Beyond the sixteen.


@fault("200", "HTML under status 200")
def html(c: Case) -> None:
    c.fake.behave = Behaviour("raw", raw=b"<html><body>Please log in</body></html>", content_type="text/html")
    c.ask_next()


@fault("200", "an empty body under status 200")
def empty(c: Case) -> None:
    c.fake.behave = Behaviour("raw", raw=b"")
    c.ask_next()


@fault("200", "half a body under status 200")
def half(c: Case) -> None:
    whole = c.fake.vendor.whole(c.fake.words)
    c.fake.behave = Behaviour("raw", raw=whole[: len(whole) // 2])
    c.ask_next()


@fault("200", "50 MB under status 200", slow=True)
def large(c: Case) -> None:
    c.fake.words = ["x" * (1024 * 1024)] * 50
    assert c.ask().provider == c.wire
    c.fake.words = ["Paris"]
    c.healthy_again()


@fault("large", "a request of 20 MB")
def large_request(c: Case) -> None:
    reply = c.ask(messages=[{"role": "user", "content": "x" * (20 * 1024 * 1024)}])
    assert (reply.provider, reply.attempts) == (c.wire, 1)
    c.unmoved()


IN_BAND = {
    "aws_bedrock": {
        "internalServerException": "server_error",
        "modelStreamErrorException": "server_error",
        "serviceUnavailableException": "overloaded",
        "throttlingException": "throttled",
        "validationException": "rejected",
    },
    "openai": {"server_error": "server_error", "rate_limit_exceeded": "throttled", "insufficient_quota": "quota"},
    "anthropic": {
        "api_error": "server_error",
        "overloaded_error": "overloaded",
        "rate_limit_error": "throttled",
        "invalid_request_error": "rejected",
    },
    "google_genai": {
        "INTERNAL": "server_error",
        "RESOURCE_EXHAUSTED": "throttled",
        "UNAVAILABLE": "overloaded",
        "INVALID_ARGUMENT": "rejected",
    },
}
IN_BAND |= {GPU: IN_BAND["openai"]}


@fault("in-band", "each error event, before and after content", streams=STREAMED)
def in_band(c: Case) -> None:
    for code, kind in IN_BAND[c.wire].items():
        c.fake.behave = Behaviour("in_band", code=code, after=OPENING[c.wire])
        c.ask_next()
        c.llm.command("reset", c.wire)
        c.fake.behave = Behaviour("in_band", code=code, after=OPENING[c.wire] + 3)
        eventually(lambda: c.llm.state(c.wire) == "closed")
        c.ask_broken(kind)
        c.llm.command("reset", c.wire)


@fault("connect", "connection refused")
def refused(c: Case) -> None:
    c.fake.refuse()
    c.ask_next()


BAD_KEY = {"aws_bedrock": status(403, "UnrecognizedClientException"), "openai": status(401, "invalid_api_key")}
BAD_KEY |= {"google_genai": status(400, "API_KEY_INVALID"), "anthropic": status(401), GPU: BAD_KEY["openai"]}


@fault("key", "our key is refused")
def bad_key(c: Case) -> None:
    b = BAD_KEY[c.wire]
    c.fake.behave = Behaviour("status", status=b.status, code=b.code, message="no such key: sk-very-secret")
    reply = c.ask_next()
    assert "secret" not in reply.raw
    c.ask_next(attempts=1)
    assert len(c.fake.received) == 1, "a bad key opens at once"
    alone = c.ask(model=f"{c.wire}/{MODELS[c.wire]}")
    assert "secret" not in str(alone.error)


QUOTA = {"aws_bedrock": status(400, "ServiceQuotaExceededException"), "openai": status(429, "insufficient_quota")}
QUOTA |= {"google_genai": status(429), "anthropic": status(429, "enforced_spend_limit_reached"), GPU: QUOTA["openai"]}


@fault("quota", "our quota is used up")
def quota(c: Case) -> None:
    c.fake.behave = QUOTA[c.wire]
    c.ask_next()
    for _ in range(5):
        c.ask_next(attempts=1)
    assert len(c.fake.received) == 1


@fault("caller", "the client leaves before the first token", wires=(*WIRES, "local"), slow=True)
def leaves_before(c: Case) -> None:
    leaves(c, after_content=False)


@fault("caller", "the client leaves after the first token", wires=(*WIRES, "local"), streams=STREAMED, slow=True)
def leaves_after(c: Case) -> None:
    leaves(c, after_content=True)


def leaves(c: Case, *, after_content: bool) -> None:
    if c.wire == "local":
        leaves_local(c, after_content=after_content)
        return
    c.fake.behave = Behaviour("stall", after=OPENING[c.wire] + 3) if after_content else Behaviour("hang")
    with c.doors.left_alone(c.door, c.request(), after_content=after_content):
        assert c.fake.arrived.wait(2)
        left = time.monotonic()
    assert c.fake.received[0].gone.wait(2), "the upstream call went on without its client"
    c.seconds = c.fake.received[0].gone_at - left
    assert 0 <= c.seconds < 0.2
    c.unmoved()
    c.healthy_again()


def leaves_local(c: Case, *, after_content: bool) -> None:
    """The engine has two slots: were one kept, ten who leave would fill them."""
    body = c.request(**({"messages": LONG_STORY, "max_tokens": 900} if after_content else unread("two")))
    for _ in range(10):
        with c.doors.left_alone(c.door, body, after_content=after_content):
            time.sleep(0.05)
    c.unmoved()
    reply = c.ask(max_tokens=2)
    assert (reply.provider, reply.attempts) == ("local", 1)
    c.seconds = reply.seconds


@fault("caller", "a deadline of 50 ms", wires=(*WIRES, "local"))
def short_deadline(c: Case) -> None:
    for name in WIRES:
        c.llm.fakes[name].behave = Behaviour("hang")
    reply = c.ask(timeout=0.05, **(unread("three") if c.wire == "local" else {}))
    assert reply.error is not None
    assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
    assert reply.seconds < c.most(0.1)
    c.unmoved()


@fault("all", "every provider down, and the local model too")
def all_down(c: Case) -> None:
    for name in CLOUDS:
        c.llm.fakes[name].behave = status(500)
    c.llm.command("isolate", "local")
    try:
        reply = c.ask(model="default")
    finally:
        c.llm.command("restore", "local")
    assert reply.error is not None
    assert reply.status == 503
    assert reply.trail.count("server_error") == len(CLOUDS)
    assert "skipped: isolated" in reply.trail
    assert c.door == "handle" or int(reply.retry_after or 0) >= 1


# Our own processes.


def replica_pids(name: str) -> list[int]:
    from ray.serve._private.api import _get_global_client

    deployments = _get_global_client().get_serve_details()["applications"]["llm"]["deployments"]
    return [r["pid"] for r in deployments[name]["replicas"] if r["state"] == "RUNNING" and r["pid"]]


@contextlib.contextmanager
def replaced_afterwards(c: Case) -> Iterator[list[int]]:
    """The provider's replicas, which this block ends; after it there are new ones."""
    before = eventually(lambda: replica_pids(c.wire))
    yield before
    eventually(lambda: set(replica_pids(c.wire)) - set(before), 60)
    if c.wire in WIRES:
        c.fake.reset()
    c.llm.command("reset", c.wire)
    eventually(lambda: c.ask(max_tokens=2).provider == c.wire, 20)


def killed_in_mid_call(c: Case, sign: signal.Signals, pids: list[int], body: dict[str, Any]) -> Reply:
    """A request whose provider's replica gets a signal once the call has reached it."""

    def end() -> None:
        if c.wire in WIRES:
            c.fake.arrived.wait(5)
            time.sleep(0.2)
        else:
            time.sleep(0.8)
        for pid in pids:
            os.kill(pid, sign)

    killer = threading.Thread(target=end)
    killer.start()
    try:
        return c.ask(**body)
    finally:
        killer.join()


@fault("replica", "the replica is killed before content", wires=(*WIRES, "local"), slow=True)
def killed_before(c: Case) -> None:
    body: dict[str, Any] = {}
    if c.wire in WIRES:
        c.fake.behave = Behaviour("hang")
    else:
        body = unread("one") if c.stream else {"messages": LONG_STORY, "max_tokens": 900}
    with replaced_afterwards(c) as pids:
        reply = killed_in_mid_call(c, signal.SIGKILL, pids, body)
        assert (reply.whole, reply.provider) == (True, c.next), reply
        assert reply.seconds < c.limit


@fault("replica", "the replica is killed after content", wires=(*WIRES, "local"), streams=STREAMED, slow=True)
def killed_after(c: Case) -> None:
    if c.wire in WIRES:
        c.fake.behave = Behaviour("stall", after=OPENING[c.wire] + 3)
    body = {"messages": LONG_STORY, "max_tokens": 900} if c.wire == "local" else {}
    with replaced_afterwards(c) as pids:
        reply = killed_in_mid_call(c, signal.SIGKILL, pids, body)
        c.was_broken(reply, "lost")
        assert reply.text


@fault("S09", "the replica freezes in mid-stream", wires=("local",), streams=STREAMED, slow=True)
def frozen(c: Case) -> None:
    pids = eventually(lambda: replica_pids("local"))
    try:
        reply = killed_in_mid_call(c, signal.SIGSTOP, pids, {"messages": LONG_STORY, "max_tokens": 900})
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    c.was_broken(reply, "unreachable")
