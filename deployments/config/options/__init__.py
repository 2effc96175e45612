"""What a provider or a target may be given beside its address and its key.

Runs in: every process.
Imports: `config.base`, `secrecy`, `validation`.
"""
