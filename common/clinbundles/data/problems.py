"""What can be wrong with a data set: each error says what was found, what was expected, and how to mend it."""


class ManifestError(ValueError):
    """A manifest cannot be read, breaks the schema, or contradicts itself."""


class MissingDataError(FileNotFoundError):
    """A data folder, or a file that a case needs, is not there."""


class SimulatedSetError(ValueError):
    """A simulated set on disk does not fit its manifest, or its simulator broke the agreement."""
