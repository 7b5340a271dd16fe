"""A bundle as one file to hand on: the zip that MONAI's tools and the Model Zoo's checks accept."""
