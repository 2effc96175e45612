"""What the demo prints. Pure: figures and words come in, lines go out."""

from collections.abc import Mapping

from tests.demo.script import Phase
from tests.demo.seen import Circuit, Seen, Tally

WIDTH = 40  # of a phase's name with its dots
INDENT = " " * 6


def opening(url: str, admin_key: str) -> list[str]:
    """Return what is said before the first phase."""
    return [
        f"Console:             {url}/",
        f"One request of it:   {url}/#/requests/ID    (an ID stands below each outage)",
        f"Operators' key:      {admin_key}    (to isolate a provider there)",
        "The clouds are fakes on this machine that speak the vendors' wires; Breakwater, its SDKs and the local model "
        "are real. Ctrl-C ends it.",
    ]


def heading(seconds: float, phase: Phase) -> str:
    """Return how a phase's line begins, `seconds` after the first phase began."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:2}:{rest:02} {phase.name} {'.' * (WIDTH - len(phase.name))} "


def result(tally: Tally) -> str:
    """Return what clients saw, as figures. Only what there was has a figure, but for errors, which have one always."""
    whole = tally.ends["whole"]
    parts = [f"{_number(tally.requests, 'request')}: {whole} answered"]
    for count, what in (
        (tally.elsewhere, "by another provider"),
        (tally.local, "by the local model"),
        (tally.went_on, "went on whole elsewhere"),
        (tally.ends["typed"], "ended with a typed error"),
        (tally.ends["budget"], "refused by a budget"),
    ):
        parts += [f"{count} {what}"] if count else []
    parts += [f"slowest {tally.slowest:.2f} s"] if whole else []
    return f"{', '.join(parts)}; {_wrong(tally)}"


def _wrong(tally: Tally) -> str:
    errors, lost = tally.ends["error"], tally.ends["lost"]
    if tally.is_good:
        return "0 errors"
    said = ", ".join(f"{count} x {why}" for why, count in tally.why.most_common())
    return f"{_number(errors, 'error').upper()}, {lost} LOST ({said})"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def circuits(watched: Mapping[str, Circuit]) -> list[str]:
    """Return what the status page has said of each provider's circuit."""
    return [f"{INDENT}circuit of {name}: {_words(circuit)}" for name, circuit in watched.items() if circuit.words]


def _words(circuit: Circuit) -> str:
    wait = f", tried again in {circuit.retry_in:.0f} s" if circuit.retry_in and circuit.retry_in >= 1 else ""
    return " > ".join(circuit.words) + wait


def example(url: str, seen: Seen | None) -> list[str]:
    """Return where one request is explained."""
    return [] if seen is None else [f"{INDENT}one of them: {url}/#/requests/{seen.request_id}"]


def ending(seconds: float, tally: Tally) -> list[str]:
    """Return what is said of all requests, `seconds` after the first."""
    return ["", f"In {seconds:.0f} s: {result(tally)}"]
