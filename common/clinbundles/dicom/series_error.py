"""The error of a DICOM series that cannot be used."""


class SeriesError(ValueError):
    """A DICOM series that cannot be read as one image; says what was found. Never holds an attribute of the patient."""
