"""Asking a model without ever waiting for it, paying too much for it, or believing that it will answer."""
