"""Makes the lifecycle happen over disk and network."""
