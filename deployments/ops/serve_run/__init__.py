"""What does `serve run` say and when does it end: a wrong config, a taken port, ready, stopped?

Runs in: the process of `serve run`, which calls `hook.begin` because serve.env names it.
Imports: `config` and `errors`.
"""
