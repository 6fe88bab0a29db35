"""What a case means that names no number of its own.

These are the numbers of transformers 5.24, which the committed fixtures were made with. They are part of hashed files,
so they stay what they are when a release changes its defaults, or this package does.
"""

from typing import Final

IMAGE_SOFT_TOKENS: Final = 280
VIDEO_SOFT_TOKENS: Final = 70  # per frame
VIDEO_FRAMES: Final = 32
UNKNOWN_FPS: Final = 24.0  # frames per second where neither case nor video names them
