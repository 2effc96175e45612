"""What have the APIs of the vendors in common that are no OpenAI's: a chat as turns, what is offered, answers in blocks?

Runs in: a provider's replica.
Imports: `errors`, `openai_api` and the port of `providers`.
"""
