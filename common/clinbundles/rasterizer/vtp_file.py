"""VTK's XML files of surfaces (.vtp): reading and writing of their arrays.

Written are ASCII-safe base64 arrays, compressed, which ParaView and 3D Slicer read; read are ascii, binary and appended
arrays (base64 or raw), compressed by zlib or not. Source: VTK file formats, docs.vtk.org, "XML file formats".
"""

from __future__ import annotations

import base64
import re
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

_TYPES = {
    "Float32": "f4", "Float64": "f8", "Int8": "i1", "UInt8": "u1", "Int16": "i2", "UInt16": "u2",
    "Int32": "i4", "UInt32": "u4", "Int64": "i8", "UInt64": "u8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _TYPES.items()}
_BLOCK = 32768


class VtpContent:
    """What a .vtp file holds, in the file's own coordinates."""

    def __init__(
        self,
        points: NDArray,
        faces: NDArray,
        point_data: dict[str, NDArray],
        cell_data: dict[str, NDArray],
        field_data: dict[str, NDArray | str],
    ) -> None:
        self.points, self.faces = points, faces
        self.point_data, self.cell_data, self.field_data = point_data, cell_data, field_data


def write_vtp(
    path: Path,
    points: NDArray,
    faces: NDArray,
    point_data: Mapping[str, NDArray],
    cell_data: Mapping[str, NDArray],
    field_data: Mapping[str, str | float],
) -> None:
    """Write one surface: points (V, 3), faces (F, 3), arrays, and texts or numbers about the whole.

    The file is written in place: give it a temporary path.
    """
    order = "LittleEndian" if sys.byteorder == "little" else "BigEndian"
    lines = [
        '<?xml version="1.0"?>',
        f'<VTKFile type="PolyData" version="1.0" byte_order="{order}" header_type="UInt64" '
        'compressor="vtkZLibDataCompressor">',
        "<PolyData>",
        "<FieldData>",
        *(_field_text(name, value) for name, value in field_data.items()),
        "</FieldData>",
        f'<Piece NumberOfPoints="{len(points)}" NumberOfVerts="0" NumberOfLines="0" NumberOfStrips="0" '
        f'NumberOfPolys="{len(faces)}">',
        "<PointData>",
        *(_array_text(name, values) for name, values in point_data.items()),
        "</PointData>",
        "<CellData>",
        *(_array_text(name, values) for name, values in cell_data.items()),
        "</CellData>",
        "<Points>",
        _array_text("Points", np.asarray(points, np.float32)),
        "</Points>",
        "<Polys>",
        _array_text("connectivity", np.asarray(faces, np.int64).ravel()),
        _array_text("offsets", 3 * np.arange(1, len(faces) + 1, dtype=np.int64)),
        "</Polys>",
        "</Piece>",
        "</PolyData>",
        "</VTKFile>",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _field_text(name: str, value: str | float) -> str:
    if isinstance(value, str):
        codes = " ".join(str(byte) for byte in [*value.encode("utf-8"), 0])
        return f'<Array type="String" Name={quoteattr(name)} NumberOfTuples="1" format="ascii">{codes}</Array>'
    return f'<DataArray type="Float64" Name={quoteattr(name)} NumberOfTuples="1" format="ascii">{value!r}</DataArray>'


def _array_text(name: str, values: NDArray) -> str:
    array = np.ascontiguousarray(values)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    kind = _NAMES.get(array.dtype)
    if kind is None:
        raise ValueError(f"array '{name}' has the type {array.dtype}: expected numbers of 1 to 8 bytes")
    width = 1 if array.ndim == 1 else array.shape[1]
    return (
        f'<DataArray type="{kind}" Name={quoteattr(name)} NumberOfComponents="{width}" format="binary">'
        f"{_encoded(array.tobytes())}</DataArray>"
    )


def _encoded(data: bytes) -> str:
    blocks = [data[start : start + _BLOCK] for start in range(0, len(data), _BLOCK)]
    packed = [zlib.compress(block, 6) for block in blocks]
    last = len(blocks[-1]) % _BLOCK if blocks else 0
    header = np.array([len(blocks), _BLOCK, last, *map(len, packed)], np.uint64).tobytes()
    return base64.b64encode(header).decode() + base64.b64encode(b"".join(packed)).decode()


def read_vtp(path: Path) -> VtpContent:
    """Read a surface of triangles.

    Raises:
        ValueError: not a .vtp file, no triangles, or arrays stored in a way that is not known here.
    """
    content = path.read_bytes()
    content, appended = _without_appended(content)
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path.name}: is not XML ({error}): expected a VTK file of a surface (.vtp)") from None
    if root.tag != "VTKFile" or root.get("type") != "PolyData":
        kind = root.get("type", root.tag)
        raise ValueError(f"{path.name}: holds '{kind}', expected VTK PolyData (a surface of triangles)")
    pieces = root.findall(".//Piece")
    if len(pieces) != 1:
        raise ValueError(f"{path.name}: has {len(pieces)} pieces, expected one")
    decode = _Decoder(path.name, root, appended)
    points = decode.named(pieces[0].find("Points"), None)
    connectivity = decode.named(pieces[0].find("Polys"), "connectivity").astype(np.int64)
    offsets = decode.named(pieces[0].find("Polys"), "offsets").astype(np.int64)
    if len(offsets) == 0:
        raise ValueError(f"{path.name}: has no polygons; strips and lines are not read: convert them to triangles")
    if (np.diff(offsets, prepend=0) != 3).any():
        raise ValueError(f"{path.name}: has polygons that are not triangles: triangulate it first")
    fields = root.find(".//FieldData")
    return VtpContent(
        points,
        connectivity.reshape(-1, 3),
        decode.all_of(pieces[0].find("PointData")),
        decode.all_of(pieces[0].find("CellData")),
        {} if fields is None else {str(one.get("Name")): decode.field(one) for one in fields},
    )


def _without_appended(content: bytes) -> tuple[bytes, tuple[str, bytes] | None]:
    """The XML without its appended data, which need not be XML; and (encoding, data)."""
    start = content.find(b"<AppendedData")
    if start < 0:
        return content, None
    opened = content.index(b">", start)
    first = content.index(b"_", opened) + 1
    end = content.rindex(b"</AppendedData>")
    found = re.search(rb'encoding="(\w+)"', content[start:opened])
    encoding = found[1].decode() if found else "base64"
    return content[:start] + content[end + len(b"</AppendedData>") :], (encoding, content[first:end])


class _Decoder:
    def __init__(self, file: str, root: ElementTree.Element, appended: tuple[str, bytes] | None) -> None:
        self.file = file
        self.order = "<" if root.get("byte_order", "LittleEndian") == "LittleEndian" else ">"
        self.header = np.dtype(self.order + ("u8" if root.get("header_type") == "UInt64" else "u4"))
        compressor = root.get("compressor")
        if compressor not in (None, "vtkZLibDataCompressor"):
            raise ValueError(f"{file}: is compressed by {compressor}; expected zlib or none: write it again so")
        self.compressed = compressor is not None
        self.appended = appended

    def named(self, parent: ElementTree.Element | None, name: str | None) -> NDArray:
        for array in () if parent is None else parent:
            if name is None or array.get("Name") == name:
                return self.array(array)
        raise ValueError(f"{self.file}: lacks the array '{name or 'Points'}'")

    def all_of(self, parent: ElementTree.Element | None) -> dict[str, NDArray]:
        arrays = () if parent is None else parent
        return {str(one.get("Name")): self.array(one) for one in arrays if one.get("type") in _TYPES}

    def field(self, element: ElementTree.Element) -> NDArray | str:
        if element.get("type") == "String":
            if element.get("format") == "ascii":
                codes = [int(code) for code in (element.text or "").split()]
                return bytes(codes).split(b"\0")[0].decode("utf-8", "replace")
            return self.bytes_of(element).split(b"\0")[0].decode("utf-8", "replace")
        return self.array(element)

    def array(self, element: ElementTree.Element) -> NDArray:
        kind = str(element.get("type"))
        if kind not in _TYPES:
            raise ValueError(f"{self.file}: array '{element.get('Name')}' has the unknown type '{kind}'")
        dtype = np.dtype(self.order + _TYPES[kind])
        if element.get("format") == "ascii":
            values = np.array((element.text or "").split(), dtype=np.float64 if dtype.kind == "f" else np.int64)
            values = values.astype(dtype.newbyteorder("="))
        else:
            values = np.frombuffer(self.bytes_of(element), dtype).astype(dtype.newbyteorder("="))
        width = int(element.get("NumberOfComponents") or 1)
        return values.reshape(-1, width) if width > 1 else values

    def bytes_of(self, element: ElementTree.Element) -> bytes:
        if element.get("format") == "binary":
            return self._unpacked("".join((element.text or "").split()).encode(), base64_coded=True)
        if self.appended is None:
            raise ValueError(f"{self.file}: array '{element.get('Name')}' points to appended data, but there are none")
        encoding, data = self.appended
        return self._unpacked(data[int(element.get("offset") or 0) :], base64_coded=encoding == "base64")

    def _unpacked(self, data: bytes, *, base64_coded: bool) -> bytes:
        def part(start: int, count: int) -> bytes:  # bytes from `start` of what was one base64 text
            if not base64_coded:
                return data[start : start + count]
            first, last = start // 3 * 4, -(-(start + count) // 3) * 4
            return base64.b64decode(data[first:last])[start % 3 :][:count]

        size = self.header.itemsize
        if not self.compressed:
            count = int(np.frombuffer(part(0, size), self.header)[0])
            return part(size, count)
        blocks = int(np.frombuffer(part(0, size), self.header)[0])
        head = np.frombuffer(part(0, size * (3 + blocks)), self.header)[3:].astype(int)
        begin = len(head) * size + 3 * size
        if base64_coded:  # the header is a base64 text of its own
            data = data[-(-begin // 3) * 4 :]
            begin = 0
        out = []
        for length in head:
            out.append(zlib.decompress(part(begin, int(length))))
            begin += int(length)
        return b"".join(out)
