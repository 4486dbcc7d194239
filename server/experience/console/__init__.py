"""The console of operators: pages, and the acts on them."""
