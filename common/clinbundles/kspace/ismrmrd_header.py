"""What the XML header of an ISMRMRD file says of one encoding; names of patients are not read."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import ismrmrd.xsd

from clinbundles.kspace.kspace_case import KspaceError

_SHORTEST_FRAME_MS = 10.0  # a TR of bSSFP is about 3 ms
_LONGEST_FRAME_MS = 300.0


@dataclass(frozen=True)
class Encoding:
    """Sizes of the encoded and the reconstructed space.

    Attributes:
        matrix: encoded samples along readout and phase encoding.
        fov_mm: encoded field of view along readout, phase encoding and slice.
        recon_matrix, recon_fov_mm: the same of the reconstruction.
        centre_line: the counter kspace_encode_step_1 of the centre of k-space.
        noise_bandwidth: relative noise bandwidth of the receiver.
        tick_ms: length of a time stamp's unit; None where the vendor's is not known.
        stated_frame_ms: TR of the header where it can only be the time of a frame, as scanners state it for cines.
        pilot_tone: whether a pilot tone was on, which spoils the ends of the readouts.
    """

    matrix: tuple[int, int]
    fov_mm: tuple[float, float, float]
    recon_matrix: tuple[int, int]
    recon_fov_mm: tuple[float, float]
    centre_line: int
    noise_bandwidth: float
    tick_ms: float | None
    stated_frame_ms: float | None
    pilot_tone: bool

    @property
    def readout_oversampling(self) -> float:
        """Encoded / reconstructed field of view along the readout."""
        return self.fov_mm[0] / self.recon_fov_mm[0]


def read_header(xml: bytes, case: str) -> Encoding:
    """The first encoding of a file.

    Raises:
        KspaceError: no header, not Cartesian, 3D, or sizes that make no sense.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the header
            header = ismrmrd.xsd.CreateFromDocument(xml)
        encoding = header.encoding[0]
        encoded, recon, limits = encoding.encodedSpace, encoding.reconSpace, encoding.encodingLimits
        matrix = (int(encoded.matrixSize.x), int(encoded.matrixSize.y))
        recon_matrix = (int(recon.matrixSize.x), int(recon.matrixSize.y))
        fov = (
            float(encoded.fieldOfView_mm.x),
            float(encoded.fieldOfView_mm.y),
            float(recon.fieldOfView_mm.z),
        )
        recon_fov = (float(recon.fieldOfView_mm.x), float(recon.fieldOfView_mm.y))
        partitions = int(encoded.matrixSize.z)
    except Exception as error:  # parsers' messages quote the header, which may name the patient
        raise KspaceError(
            f"case '{case}': the ISMRMRD header cannot be read ({type(error).__name__}): expected one encoding with "
            "encodedSpace and reconSpace"
        ) from None
    trajectory = str(getattr(encoding.trajectory, "value", encoding.trajectory)).lower()
    if trajectory != "cartesian":
        raise KspaceError(
            f"case '{case}': the trajectory is {trajectory}, expected cartesian: other trajectories cannot be "
            "reconstructed here; grid the data before"
        )
    if partitions > 1:
        raise KspaceError(
            f"case '{case}': the encoded matrix has {partitions} partitions (3D), expected 1: 2D cines only"
        )
    if min(*matrix, *recon_matrix) < 1 or not min(*fov[:2], *recon_fov) > 0:
        raise KspaceError(
            f"case '{case}': the header states the matrix {matrix} and {recon_matrix} and the field of view "
            f"{fov[:2]} and {recon_fov} mm (encoded, reconstructed), expected all above 0"
        )
    return Encoding(
        matrix,
        fov,
        recon_matrix,
        recon_fov,
        _centre_line(limits, matrix[1]),
        _noise_bandwidth(header),
        _tick_ms(header),
        _stated_frame_ms(header),
        _pilot_tone(header),
    )


def _centre_line(limits: Any, lines: int) -> int:
    step = getattr(limits, "kspace_encoding_step_1", None)
    return lines // 2 if step is None else int(step.center)


def _noise_bandwidth(header: Any) -> float:
    system = header.acquisitionSystemInformation
    stated = getattr(system, "relativeReceiverNoiseBandwidth", None)
    return float(stated) if stated else 1.0


def _tick_ms(header: Any) -> float | None:
    vendor = str(getattr(header.acquisitionSystemInformation, "systemVendor", None) or "")
    return 2.5 if "siemens" in vendor.lower() else None


def _stated_frame_ms(header: Any) -> float | None:
    values = list(getattr(header.sequenceParameters, "TR", None) or [])
    if len(values) == 1 and _SHORTEST_FRAME_MS <= float(values[0]) <= _LONGEST_FRAME_MS:
        return float(values[0])
    return None


def _pilot_tone(header: Any) -> bool:
    values = list(getattr(header.userParameters, "userParameterLong", None) or [])
    return any(value.name == "PilotTone" and int(value.value) == 1 for value in values)
