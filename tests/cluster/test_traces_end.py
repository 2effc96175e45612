"""The end of a replica: what it still has to tell goes out first."""

import pathlib

import pytest

from tests.cluster.conftest import config_of, started
from tests.cluster.test_traces import fresh, provider, trace_of, tree
from tests.fakes.otlp import Receiver

pytestmark = pytest.mark.traces

NEVER = str(24 * 3600 * 1000)  # milliseconds


def test_a_replica_that_is_stopped_sends_its_last_spans_first(tmp_path: pathlib.Path) -> None:
    receiver = Receiver()
    try:
        variables = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.url}/traces", "OTEL_BSP_SCHEDULE_DELAY": NEVER}
        with started(tmp_path, config_of, **variables) as llm:
            trace_id, parent = fresh()
            response = llm.post(model="first-openai", headers={"traceparent": f"00-{trace_id}-{parent}-01"})
            assert response.status_code == 200
            assert receiver.spans == []
        spans = trace_of(receiver, trace_id, 4)
        assert tree(spans, parent) == [("POST /v1/chat/completions", [provider("openai")])]
        assert receiver.headers[0]["path"] == "/traces"
    finally:
        receiver.stop()
