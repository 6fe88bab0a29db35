"""A bundle on disk: its files, schema, constants, and what its functions take."""
