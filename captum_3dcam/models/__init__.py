"""The networks of 3DCAM's paper, and what makes a layer-wise gated one of any network."""
