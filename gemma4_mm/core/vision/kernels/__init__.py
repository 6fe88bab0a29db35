"""What resizes: each kernel keeps the promises of one contract, and gives the same bits."""
