"""Media opened, laid out, and written: each item is decoded once and written once, into its place."""
