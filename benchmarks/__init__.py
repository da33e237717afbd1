"""How fast the hub is, proven: scenarios, peers beside it under the same load, and a report made from stored results."""
