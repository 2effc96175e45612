"""What the errors of vendors say, and whose fault each is: how they are read, and by which rules they get a kind.

Runs in: each provider replica.
Imports: `openai_api.json_types` alone.
"""
