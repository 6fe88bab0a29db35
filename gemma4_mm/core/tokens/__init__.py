"""Placeholders to soft tokens, and what each token of a row is."""
