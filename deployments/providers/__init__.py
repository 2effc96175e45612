"""The four kinds of provider behind one port. Plain Python: no Ray, no breaker, no failover."""
