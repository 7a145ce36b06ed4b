"""ASGI middleware.

From the outside in: request context, concurrency limit, authentication, rate limit, body limit.
"""
