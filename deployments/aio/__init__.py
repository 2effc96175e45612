"""What does asyncio lack? A timer that is re-armed cheaply, and a gather that ends with its first failure.

Runs in: any process.
Imports: nothing of ours.
"""
