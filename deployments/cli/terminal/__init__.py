"""How do words, figures, tables and times look on a terminal, and in a pipe?

Runs in: a terminal.
Imports: nothing of ours.
"""
