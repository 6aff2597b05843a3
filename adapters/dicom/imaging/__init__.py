"""Pictures of what is held: made in a process that can open nothing and has limits."""
