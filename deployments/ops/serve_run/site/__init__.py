"""What does Python import at the start of a process that has serve.env?

Runs in: each such process; only `serve run` and Ray's agent are changed.
Imports: nothing of ours.
"""
