"""The application's configuration, as serve_config.yaml has it.

Runs in: every process, and `python -m deployments.config`.
Imports: `actors`, `errors`, `openai_api`, `providers`.
"""
