"""What all parts of a configuration are made of: sections, and the types of single values.

Runs in: every process.
Imports: `secrecy`, `validation`.
"""
