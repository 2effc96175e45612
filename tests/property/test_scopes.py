"""No attempt is ever outside of a request's scope, whatever rows, tags, failures and conversations there are."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.breaker.outcomes import Outcome
from deployments.errors import BreakwaterError, OutOfScope
from deployments.openai_api.chat import check_request
from deployments.usage.caller import Caller
from tests.clock import run_virtually
from tests.unit.world import REQUEST, world

TAGS = ("eu", "no-train", "fast")
PROVIDERS = ("a", "b", "c", "d")
SETS = st.frozensets(st.sampled_from(TAGS), max_size=3)
ROWS = st.dictionaries(st.sampled_from(PROVIDERS), SETS, min_size=1, max_size=4)
ENDS = st.sampled_from(
    [
        None,
        Outcome("server_error", status=500),
        Outcome("throttled", status=429, retry_after=2.0),
        Outcome("rejected", status=400, param="temperature", message="'temperature' is not supported"),
        Outcome("credential", status=401),
        Outcome("connect"),
    ]
)


@settings(max_examples=40, deadline=None)
@given(
    own=st.fixed_dictionaries(dict.fromkeys(PROVIDERS, SETS)),
    rows=st.fixed_dictionaries({"x": ROWS, "y": ROWS}),
    ends=st.fixed_dictionaries(dict.fromkeys(PROVIDERS, st.lists(ENDS, min_size=1, max_size=12))),
    asked=st.lists(
        st.tuples(
            st.lists(st.sampled_from(["x", "y", "a/m", "b/m"]), min_size=1, max_size=3, unique=True),
            SETS,
            SETS,
            st.sampled_from([None, "s"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    ),
)
def test_no_attempt_is_outside(own: Any, rows: Any, ends: Any, asked: Any) -> None:
    args = {
        "providers": {
            name: {"kind": "openai", "base_url": f"http://127.0.0.1:1/{name}", "tags": sorted(own[name])}
            for name in PROVIDERS
        },
        "models": {
            row: {name: {"model": "m", "tags": sorted(tags)} for name, tags in of.items()} for row, of in rows.items()
        },
    }

    def allowed(models: list[str], scope: frozenset[str]) -> set[str]:
        found = set()
        for model in models:
            of = rows[model] if model in rows else {model[0]: frozenset()}
            found |= {name for name, tags in of.items() if scope <= own[name] | tags}
        return found

    async def main() -> None:
        async with world(args) as w:
            for name in PROVIDERS:
                w.provider(name).ends = list(ends[name])
            for models, by_request, by_key, session, stream in asked:
                before = {name: w.provider(name).calls for name in PROVIDERS}
                scope = by_request | by_key
                caller = Caller(
                    "http",
                    key_name="k",
                    scope=",".join(sorted(by_request)) or None,
                    key_tags=by_key,
                    session=session,
                )
                body = {**REQUEST, "models": models, "temperature": 0.5, "stream": stream}
                del body["model"]
                refused = None
                try:
                    if stream:
                        answer = await w.service.stream(check_request(body), w.service.deadline(20), caller)
                        async for _ in answer.frames():
                            pass
                        await answer.close()
                    else:
                        await w.service.complete(check_request(body), w.service.deadline(20), caller)
                except BreakwaterError as error:
                    refused = error
                called = {name for name in PROVIDERS if w.provider(name).calls > before[name]}
                may = allowed(models, scope)
                assert called <= may
                assert isinstance(refused, OutOfScope) is not bool(may)

    run_virtually(main())
