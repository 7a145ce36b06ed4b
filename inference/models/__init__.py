"""Model artifacts: download, verification, loading, eviction and export."""
