"""Search spaces: what is searched over, and the networks made of it."""
