"""What OpenAPI says of the endpoints beyond what Litestar finds out."""
