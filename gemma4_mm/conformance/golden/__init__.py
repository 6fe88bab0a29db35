"""Fixtures for ports in other languages: built, verified, and read back whole. `SCHEMA.md` is their format."""

from gemma4_mm.conformance.golden.build import PRODUCERS, Summary, build_fixtures, measure
from gemma4_mm.conformance.golden.store import Fixtures, verify_fixtures

__all__ = ["PRODUCERS", "Fixtures", "Summary", "build_fixtures", "measure", "verify_fixtures"]
