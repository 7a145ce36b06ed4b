"""Who may do what: API keys, roles, limits, usage and the audit log."""
