"""Files and figures of one examination."""
