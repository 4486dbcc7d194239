"""The declared lifecycles, their reader, the generated files, and the model."""
