"""Growth of the retinal vasculature and its exact rasterisation."""
