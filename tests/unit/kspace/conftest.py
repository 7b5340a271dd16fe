"""Small cines of which everything is known, and writers of the formats that the readers take."""

from __future__ import annotations

from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
import torch

from clinbundles.mcmr.fourier import fft2c

FRAMES, COILS, READOUT, LINES = 5, 4, 24, 20


def smooth_maps(coils: int, readout: int, lines: int) -> torch.Tensor:
    """Unit maps (N, X, Y) of coils around the field of view."""
    x = torch.linspace(-1, 1, readout)[:, None]
    y = torch.linspace(-1, 1, lines)[None, :]
    angles = 2 * np.pi * torch.arange(coils) / coils
    maps = [
        torch.exp(-((x - 1.2 * a.cos()) ** 2 + (y - 1.2 * a.sin()) ** 2) / 2) * torch.exp(1j * (a + 0.7 * x * a.sin()))
        for a in angles
    ]
    stacked = torch.stack(maps)
    return (stacked / torch.linalg.vector_norm(stacked, dim=0)).to(torch.complex64)


def beating_disc(frames: int, readout: int, lines: int) -> torch.Tensor:
    """Images (T, X, Y) of a disc whose radius changes."""
    x = torch.linspace(-1, 1, readout)[:, None]
    y = torch.linspace(-1, 1, lines)[None, :]
    radii = 0.45 + 0.1 * torch.cos(2 * np.pi * torch.arange(frames) / frames)
    body = torch.sigmoid(20 * (0.85 - (x**2 + y**2).sqrt()))
    heart = torch.stack([torch.sigmoid(20 * (radius - ((x - 0.1) ** 2 + y**2).sqrt())) for radius in radii])
    return ((body + heart) * torch.exp(0.3j * x)).to(torch.complex64)


@pytest.fixture
def images() -> torch.Tensor:
    return beating_disc(FRAMES, READOUT, LINES)


@pytest.fixture
def maps() -> torch.Tensor:
    return smooth_maps(COILS, READOUT, LINES)


@pytest.fixture
def kspace(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """(T, N, X, Y) without noise, fully sampled."""
    return fft2c(images[:, None] * maps)


@pytest.fixture
def sample(kspace: torch.Tensor) -> dict:
    """A case that has nothing wrong."""
    return {
        "case": "P001",
        "kspace": kspace.clone(),
        "mask": torch.ones(FRAMES, LINES),
        "cyclic": True,
        "acquisition": {},
    }


HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <subjectInformation><patientName>SECRET^NAME</patientName></subjectInformation>
 <acquisitionSystemInformation><systemVendor>SIEMENS</systemVendor>
 <relativeReceiverNoiseBandwidth>{bandwidth}</relativeReceiverNoiseBandwidth>
 <receiverChannels>{coils}</receiverChannels></acquisitionSystemInformation>
 <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>{x}</x><y>{y}</y><z>{z}</z></matrixSize>
   <fieldOfView_mm><x>{fov_x}</x><y>{fov_y}</y><z>8</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>{rx}</x><y>{ry}</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>{rfov_x}</x><y>{rfov_y}</y><z>8</z></fieldOfView_mm></reconSpace>
  <encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>
  </kspace_encoding_step_1></encodingLimits>
  <trajectory>{trajectory}</trajectory>
 </encoding>
 {end}
</ismrmrdHeader>"""


class IsmrmrdFile:
    """Writes an ISMRMRD file readout by readout."""

    def __init__(self, path: Path, **header: object) -> None:
        self.path = path
        self.header = {
            "coils": COILS,
            "x": READOUT,
            "y": LINES,
            "z": 1,
            "rx": READOUT,
            "ry": LINES,
            "bandwidth": 1.0,
            "fov_x": 240.0,
            "fov_y": 200.0,
            "rfov_x": 240.0,
            "rfov_y": 200.0,
            "last": LINES - 1,
            "centre": LINES // 2,
            "trajectory": "cartesian",
            "end": "",
            **header,
        }
        self.acquisitions: list[ismrmrd.Acquisition] = []

    def add(self, samples: np.ndarray, line: int = 0, *, flags: int = 0, centre: int | None = None, **idx: int) -> None:
        """One readout (N, S)."""
        acquisition = ismrmrd.Acquisition.from_array(np.ascontiguousarray(samples, dtype=np.complex64))
        acquisition.center_sample = samples.shape[1] // 2 if centre is None else centre
        acquisition.sample_time_us = 2.0
        acquisition.position[:] = (10.0, 20.0, 30.0)
        acquisition.read_dir[:], acquisition.phase_dir[:], acquisition.slice_dir[:] = (1, 0, 0), (0, 1, 0), (0, 0, 1)
        acquisition.idx.kspace_encode_step_1 = line
        acquisition.acquisition_time_stamp = len(self.acquisitions) + 1
        for name, value in idx.items():
            if name in ("physiology", "stamp", "dwell"):
                continue
            setattr(acquisition.idx, name, value)
        acquisition.physiology_time_stamp[0] = idx.get("physiology", 0)
        acquisition.acquisition_time_stamp = idx.get("stamp", acquisition.acquisition_time_stamp)
        acquisition.sample_time_us = idx.get("dwell", 2.0)
        if flags:
            acquisition.set_flag(flags)
        self.acquisitions.append(acquisition)

    def write(self) -> Path:
        with ismrmrd.Dataset(str(self.path), create_if_needed=True) as file:
            file.write_xml_header(HEADER.format(**self.header).encode())
            for acquisition in self.acquisitions:
                file.append_acquisition(acquisition)
        return self.path


def write_mat73(path: Path, **arrays: np.ndarray) -> Path:
    """A MATLAB 7.3 file as MATLAB writes it: axes reversed, complex values as pairs."""
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            content = array.T
            if np.iscomplexobj(content):
                pair = np.empty(content.shape, dtype=[("real", "<f4"), ("imag", "<f4")])
                pair["real"], pair["imag"] = content.real, content.imag
                content = pair
            file[name] = content
    return path
