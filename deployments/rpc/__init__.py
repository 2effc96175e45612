"""How does a call get from an ingress replica to a provider's replica?

Runs in: client, pool, connection, in_flight and p2c_router in the ingress; server and admission in the
provider replica; port, framing, long_calls and batching in both.
Imports: `actors`, `errors`, `aio`, `long_text`, `openai_api`, `providers`.
"""
