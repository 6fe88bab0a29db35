"""Which frames of a video are used, and when they are shown."""
