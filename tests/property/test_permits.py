"""Permits and requests that come, wait and leave in every order."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from deployments.breaker_client.permits import KEEP_SECONDS
from tests.clock import run_virtually
from tests.unit.test_permits import Desk


@given(
    st.lists(
        st.tuples(
            st.sampled_from("tu"),
            st.sampled_from([0.0, 0.02, 0.06, 0.5]),
            st.booleans(),
            st.sampled_from([0.0, 0.03, 0.2, 2.0]),
            st.booleans(),
        ),
        max_size=15,
    )
)
def test_no_permit_is_ever_lost_or_used_twice(steps: list[tuple[str, float, bool, float, bool]]) -> None:
    async def main() -> None:
        desk, tasks = Desk(), []
        for target, desk.seconds, desk.grants, pause, cancels in steps:
            tasks.append(asyncio.create_task(desk.take(target)))
            await asyncio.sleep(pause)
            if cancels:
                tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(2 * KEEP_SECONDS + 1)
        assert (desk.out, list(desk.permits.kept)) == (set(), [])
        desk.permits.close()

    run_virtually(main())
