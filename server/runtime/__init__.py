"""The one authority over sessions. It knows nothing of HTTP."""
