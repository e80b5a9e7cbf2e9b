"""Learning from cases: patches, losses, the one training loop, and saved weights."""
