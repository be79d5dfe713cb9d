"""How a model is trained, whichever it is."""
