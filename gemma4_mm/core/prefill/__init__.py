"""A prefill in chunks that cut no vision block."""
