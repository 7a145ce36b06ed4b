"""Webhooks: told in the transaction of what happened, signed, sent to the internet only, tried for a day."""
