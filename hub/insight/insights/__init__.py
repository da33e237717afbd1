"""What is worth saying of what somebody reads: by rules and statistics at once, by a model when there is time."""
