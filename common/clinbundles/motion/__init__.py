"""Motion of the heart: displacement fields, the network that estimates them, their losses and their errors."""
