"""Parts of the training recipe that this bundle alone has."""
