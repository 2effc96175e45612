"""What rows may do beyond failover, in the simulated cluster: texts that go on, second legs, keys, and full targets."""
