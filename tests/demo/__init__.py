"""The demo: Breakwater keeps calls answered while its providers break in turns, on this machine and without any key.

    uv run --env-file serve.env python -m tests.demo

| file | what is in it |
|---|---|
| script.py | which provider breaks when, and how |
| seen.py | what clients saw, and how it is counted |
| lines.py | what is printed |
| config.py | the configuration that is served, and its environment |
| traffic.py | the clients |
| stage.py | what is started, and how it is played |
| picture.py | a picture of the console |

The first four are pure.
"""
