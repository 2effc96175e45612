"""What the APIs of vendors other than OpenAI have in common: a chat as turns, tools offered, answers in blocks.

Runs in: a provider's replica.
Imports: `errors`, `openai_api` and the port of `providers`.
"""
