"""Endpoint logic: turn a validated request into an OpenAI-shaped response."""
