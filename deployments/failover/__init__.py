"""One request: who is tried, and how does it end?

Runs in: ingress replicas.
Imports: `actors`, `errors`, `aio`, `openai_api`, `config`, `providers.base`, `usage`, `telemetry`, `rpc.port`,
`breaker_client`.
"""
