"""Attention masks as O(n) specifications, under each reference's rule."""
