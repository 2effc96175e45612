"""The `deployments` package of another app. It is not Breakwater's, and hides it."""
