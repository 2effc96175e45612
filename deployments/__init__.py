"""Who speaks? The HTTP and Python doors, the failover, and the providers behind them."""
