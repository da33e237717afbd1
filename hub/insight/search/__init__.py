"""Finding things by what they say and what they mean, among what the caller may read."""
