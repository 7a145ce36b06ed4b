"""Job states, the transitions between them, leases, queue position and change feed."""
