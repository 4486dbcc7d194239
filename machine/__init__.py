"""Makes the declared lifecycle happen, in memory and purely: no clock, no randomness, no input or output."""
