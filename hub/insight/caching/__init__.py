"""Values worth keeping, each computed once by all who want it, and asked for before somebody does."""
