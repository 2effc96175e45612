"""Which commands are there? Each file has those of one noun: what they ask, and how the answer is printed.

Runs in: a terminal.
Imports: `cli.server` and `cli.terminal`, and `actors.breaker.outcomes` for the words of outcomes.
"""
