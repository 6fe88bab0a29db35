"""Text without pixels: messages, chat template, and tokenizer."""
