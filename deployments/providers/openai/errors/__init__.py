"""What the errors of servers that speak OpenAI's API mean: a table for each vendor, and the kinds of the rest.

Runs in: its provider replica.
Imports: as `providers`.
"""
