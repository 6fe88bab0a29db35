"""A bundle on Apple's runtime: checked calls, KV states, sessions, replies."""
