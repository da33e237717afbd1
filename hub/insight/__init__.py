"""What is inferred from what passes through the hub: search by meaning, insights, a load that is learned."""
