"""Access control: API keys, roles, limits, usage and the audit log."""
