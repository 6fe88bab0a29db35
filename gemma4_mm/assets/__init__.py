"""The tokenizer, chat template and configuration: found, fetched, rebuilt, verified."""
