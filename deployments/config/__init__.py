"""What does serve_config.yaml say?

Runs in: every process, and `python -m deployments.config`.
Imports: `actors`, `errors`, `openai_api`, `providers`.
"""
