"""The Service in front of the machines: it sends clients to those whose readiness probe passes."""

from dataclasses import dataclass

from tests.nodes.load import Load
from tests.nodes.site import Site
from tests.repeated import Repeated


@dataclass
class Service(Repeated):
    site: Site
    load: Load

    def look(self) -> None:
        if ready := self.site.ready():
            self.load.entries[:] = ready
