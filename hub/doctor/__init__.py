"""Is a running deployment set up as the hub needs it? Each check says what it found and what to change."""
