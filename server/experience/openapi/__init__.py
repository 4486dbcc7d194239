"""OpenAPI descriptions of the endpoints beyond what Litestar derives."""
