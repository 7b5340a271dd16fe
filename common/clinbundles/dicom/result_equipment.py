"""Who made a DICOM result: the bundle and its version, in the attributes that the standard has for it."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.uid import UID, generate_uid

from clinbundles import __version__

MANUFACTURER = "clinbundles"
_LONG_STRING = 64  # characters of the value representation LO


@dataclass(frozen=True)
class ResultEquipment:
    """A bundle as the maker of a DICOM result.

    Attributes:
        name: the bundle.
        version: version of the bundle.
        notice: what a reader must know of the result, such as "Research use only".
    """

    name: str
    version: str
    notice: str = ""

    @property
    def manufacturer(self) -> str:
        """The attribute Manufacturer."""
        return MANUFACTURER

    @property
    def model(self) -> str:
        """The attribute ManufacturerModelName."""
        return self.name[:_LONG_STRING]

    @property
    def software(self) -> list[str]:
        """The attribute SoftwareVersions: of the bundle, then of the package."""
        return [self.version[:_LONG_STRING] or "unknown", f"clinbundles {__version__}"]

    @property
    def serial_number(self) -> str:
        """The attribute DeviceSerialNumber, which a program has none of: its version."""
        return self.version[:_LONG_STRING] or "unknown"

    @property
    def device_uid(self) -> UID:
        """The same for every result of this version."""
        return generate_uid(entropy_srcs=[MANUFACTURER, self.name, self.version])

    def series_description(self, what: str) -> str:
        """What the series is, and that it is for research: at most 64 characters."""
        return f"{what} (research use only)"[:_LONG_STRING]
