"""Anthropic's models, by whichever API they are asked: how they think, what they sign, how much they say.

Runs in: provider replicas; the table of the lengths of answers in the ingress too.
Imports: `openai_api`, `providers.conversation`.
"""
