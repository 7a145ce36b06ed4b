"""Webhooks: signed deliveries to public addresses, enqueued with events and retried for a day."""
