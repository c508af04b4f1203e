"""Integer programmes as data, and the backends that solve them."""
