"""From a vessel map to an image that looks like an OCT angiograph."""
