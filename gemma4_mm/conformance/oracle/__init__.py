"""The reference in a process of its own: `worker` runs under any interpreter and imports nothing of this package."""
