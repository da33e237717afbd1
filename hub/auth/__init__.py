"""Who are you: tokens, passwords, sign-in."""
