"""Constrained decoding for `response_format`, `tools` and `tool_choice`."""
