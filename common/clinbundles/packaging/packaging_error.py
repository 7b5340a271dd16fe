"""The error of this package."""


class PackagingError(ValueError):
    """A bundle that cannot be packaged as it is; the message says what to change."""
