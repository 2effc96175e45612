"""Which names of tools does a vendor take, and how does the client get its own back?

Runs in: a provider's replica.
Imports: `errors`, `openai_api` and the port of `providers`.
"""
