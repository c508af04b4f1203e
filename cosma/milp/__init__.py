"""Integer programmes as data, and who solves them."""
