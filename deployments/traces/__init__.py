"""Traces: what requests and calls say as OpenTelemetry spans. Off unless an OTLP endpoint is configured."""
