"""An application of Ray Serve that does nothing: what remains of a start without ours."""

from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Empty:
    async def __call__(self, _: object) -> str:
        return "nothing"


app = Empty.bind()
