"""From a checkpoint to a bundle: graphs, quantisation, export, gates."""
