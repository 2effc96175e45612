"""What does an operator ask and do from a terminal?

Runs in: a terminal, on any machine that reaches the HTTP API; nothing of the server.
Imports: nothing that needs Ray or a vendor's SDK.
"""
