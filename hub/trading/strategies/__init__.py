"""Trading by rule: what a strategy is, two of them, and who runs them."""
