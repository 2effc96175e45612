"""Does the memory of our processes stay flat?"""

import pathlib
import re
from dataclasses import dataclass, field

from tests.nodes.site import Site
from tests.repeated import Repeated

PERIOD = 10.0  # seconds between two looks
WARM, LONG = 60.0, 300.0  # seconds: what a process takes then is what it needs, and those that live so long are judged
OURS = re.compile(r"^(ray::ServeReplica:llm:\w+|ray::BreakerActor|ray::LedgerActor)")
GROWTH, SLACK = 1.15, 20.0  # times, and MB


@dataclass
class Memory(Repeated):
    """MB of each process, by its name and number, every PERIOD seconds."""

    site: Site
    period = PERIOD
    seen: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def look(self) -> None:
        for machine in self.site.machines.values():
            for pid, _ in list(machine.pids()):
                self._look(pid)

    def _look(self, pid: int) -> None:
        try:
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        ours, rss = OURS.match(command), re.search(r"VmRSS:\s+(\d+) kB", status)
        if ours and rss:
            self.seen.setdefault((ours[1], pid), []).append(int(rss[1]) / 1024)

    def _judged(self) -> dict[tuple[str, int], tuple[float, float]]:
        """Return for each process that lived long what it took once it was warm, and at last."""
        warm = int(WARM / PERIOD)
        return {who: (mb[warm], mb[-1]) for who, mb in self.seen.items() if len(mb) * PERIOD >= LONG}

    def report(self) -> None:
        for (name, pid), (warm, last) in sorted(self._judged().items()):
            minutes = len(self.seen[name, pid]) * PERIOD / 60
            print(f"{name}: {warm:.0f} MB after a minute, {last:.0f} MB after {minutes:.0f} minutes")

    def check(self) -> None:
        grown = {who: mb for who, mb in self._judged().items() if mb[1] > mb[0] * GROWTH + SLACK}
        assert grown == {}
