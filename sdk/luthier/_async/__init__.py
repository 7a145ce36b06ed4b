"""Hand-written async client. ``sdk/codegen/sync_client.py`` generates ``luthier/_sync`` from it."""
