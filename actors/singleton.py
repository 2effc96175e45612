"""One actor of one name, found by all who ask for it, and replaced when it runs other code. Ray.

It must not know what the actor does: it has a method `hello(config)` that takes the application's word
and answers with `code`, the fingerprint of the source it runs.
"""

import asyncio
import hashlib
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import ray

log = logging.getLogger(__name__)

NAMESPACE = "breakwater"


def code_fingerprint() -> str:
    """A hash of the actors' own source: a running actor with another one is stale."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


async def summon_actor(
    cls: type, app: str, role: str, config: Mapping[str, Any], *, newest: bool, **options: Any
) -> Any:
    """The application's actor of this role, created if there is none.

    With `newest`, an actor that runs other code than ours is ended and replaced: only a replica that
    has just started may say so, because Serve starts replicas of the newest version only.
    """
    remote: Any = ray.remote(cls)
    while True:
        actor = remote.options(
            name=f"{app}-{role}",
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,
            num_cpus=0,
            max_concurrency=10_000,
            **options,
        ).remote(app, config)
        who = await actor.hello.remote(config)
        if not newest or who["code"] == code_fingerprint():
            return actor
        log.info("the %s actor runs other code: replacing it", role)
        ray.kill(actor, no_restart=True)
        await asyncio.sleep(0.05)  # the name is freed a moment after the kill
