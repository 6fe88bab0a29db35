"""Waveforms to frames of 640 samples."""
