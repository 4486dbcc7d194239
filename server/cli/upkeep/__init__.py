"""``interlock backup``, ``restore`` and ``doctor``."""
