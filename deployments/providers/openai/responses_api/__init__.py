"""How is a server asked by OpenAI's Responses API, and what does its answer say as a chat completion?

Runs in: its provider replica.
Imports: `openai` beside it, and as `providers`.
"""
