"""Pre-trade risk: what an order must pass before a venue may see it."""
