"""How fast the hub is: scenarios, peers beside it under the same load, and a report made from stored results."""
