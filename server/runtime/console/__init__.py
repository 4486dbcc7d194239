"""What the console of operators needs besides what administrators use."""
