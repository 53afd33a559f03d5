"""The trained networks that the examples and studies explain, and the data that they know."""
