"""Prices, trades and books: from exchanges in, one market out."""
