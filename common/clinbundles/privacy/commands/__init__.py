"""Commands of `python -m clinbundles.privacy`, one a file."""
