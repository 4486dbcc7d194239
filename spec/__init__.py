"""What may happen: the declared lifecycles, their reader, and everything generated from them."""
