"""Webhooks: what is published, told to addresses outside."""
