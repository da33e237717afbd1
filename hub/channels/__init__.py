"""The heart: policy of a channel, the way in (publishing), the way out (fan-out), and where they join."""
