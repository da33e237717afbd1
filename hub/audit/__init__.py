"""The audit log: what is written down, the signed heads outside the database, and whether they still agree."""
