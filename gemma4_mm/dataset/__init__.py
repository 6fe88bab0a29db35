"""Data sets: many requests to sharded safetensors, resumable, and a reader for them."""

from gemma4_mm.dataset.reader import Sample, Shards, read_shards
from gemma4_mm.dataset.run import BatchReport, run_batch

__all__ = ["BatchReport", "Sample", "Shards", "read_shards", "run_batch"]
