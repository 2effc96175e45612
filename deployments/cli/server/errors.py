"""Why a command could not be done, as one sentence, and the exit code that says so. Pure.

CliError
├── Unreachable   3: nobody answered, or not in time
├── Refused       4: the server wants another key (401, 403)
└── ServerError   5: any other error of the server, or an answer that can't be read

A wrong usage is click's own UsageError, whose code is 2.
"""

BAD_NEWS, WRONG_USAGE, INTERRUPTED, CLOSED_PIPE = 1, 2, 130, 141


class CliError(Exception):
    code = 5


class Unreachable(CliError):
    code = 3


class Refused(CliError):
    code = 4


class ServerError(CliError):
    code = 5
