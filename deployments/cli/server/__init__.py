"""How is the server asked, by which key, and what if it does not answer?

Runs in: a terminal.
Imports: `cli.terminal`, and `ops.spans`.
"""
