"""Who is healthy, and in which order to ask? Imports nothing of `deployments`."""
