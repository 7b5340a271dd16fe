"""Image classifiers trained with differential privacy: steerable networks that lose less to the noise."""
