"""Pictures to patches: target size, the exact resize, rescale, and the cut into merged 48 px patches."""
