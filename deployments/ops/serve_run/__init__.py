"""What does `serve run` say and when does it end: a wrong config, a taken port, what a killed one left, ready, stopped?

Runs in: the process of `serve run`, in which Ray calls `hook.begin`.
Imports: `config` and `errors`.
"""
