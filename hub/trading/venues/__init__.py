"""Where orders trade."""
