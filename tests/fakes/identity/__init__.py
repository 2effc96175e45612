"""Servers of credentials on real sockets, as the vendors document them: they refuse what the vendors refuse."""
