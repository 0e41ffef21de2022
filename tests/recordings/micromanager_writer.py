"""Files laid out as Micro-Manager's own program lays out its OME-TIFF, written without our code.

By https://micro-manager.org/Micro-Manager_File_Formats: header with the offsets of index map, display
settings and comments, summary as JSON, index map, then for each plane its directory (17 tags for the first,
13 for the others), pixels, resolutions and metadata; at the end OME-XML, display settings and comments.
"""

from __future__ import annotations

import json
import struct
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

SUMMARY = {
    "MicroManagerVersion": "2.0.3 20231012",
    "ChNames": ["Brightfield", "Mitochondria"],
    "z-step_um": 0.5,
    "Interval_ms": 30000,
    "PixelSize_um": 0.1,
    "SlicesFirst": True,
    "TimeFirst": False,
}

LONG, SHORT, ASCII, RATIONAL = 4, 3, 2, 5


def positions(*named: tuple[str, float, float, float]) -> list[dict[str, Any]]:
    """The list of positions, as it stands in a summary."""
    return [
        {
            "Label": label,
            "DefaultXYStage": "XY",
            "DefaultZStage": "Z",
            "GridRow": 0,
            "GridCol": 0,
            "DevicePositions": [
                {"Device": "Z", "Position_um": [z]},
                {"Device": "XY", "Position_um": [x, y]},
            ],
        }
        for label, x, y, z in named
    ]


def write_file(
    path: Path,
    planes: dict[tuple[int, int, int, int], np.ndarray],
    *,
    summary: dict[str, Any],
    plane: dict[str, Any] | None = None,
    ome: str = "",
    finished: bool = True,
    blank: int = 0,
) -> None:
    """Write planes by (position, time point, channel, z).

    Parameters
    ----------
    finished : bool
        Otherwise as after a crash: space for many planes in the index map, no OME-XML, no end.
    blank : int
        Black planes behind the others that are not in the index map, as of a run that was stopped.
    """
    told = json.dumps(summary).encode()
    entries = len(planes) if finished else len(planes) + 50
    at = 40 + len(told) + 8 + 20 * entries
    body = bytearray()
    rows = []
    first = next(iter(planes.values()))
    todo = [*planes.items(), *[(None, first * 0)] * blank]
    later = {}
    for number, (where, pixels) in enumerate(todo):
        tags = 17 if number == 0 else 13
        data = pixels.tobytes()
        words = json.dumps({"FileName": path.name, **(plane or {})}).encode() + b"\0"
        start = at + len(body)
        pixels_at = start + 2 + 12 * tags + 4
        resolution_at = pixels_at + len(data)
        words_at = resolution_at + 16
        end = words_at + len(words)
        extra = -end % 2
        height, width = pixels.shape
        made = [
            (256, LONG, 1, width),
            (257, LONG, 1, height),
            (258, SHORT, 1, 8 * pixels.itemsize),
            (259, SHORT, 1, 1),
            (262, SHORT, 1, 1),
            *([(270, ASCII, 0, 0), (270, ASCII, 0, 0)] if number == 0 else []),
            (273, LONG, 1, pixels_at),
            (277, SHORT, 1, 1),
            (278, SHORT, 1, height),
            (279, LONG, 1, len(data)),
            (282, RATIONAL, 1, resolution_at),
            (283, RATIONAL, 1, resolution_at + 8),
            (296, SHORT, 1, 3),
            *([(50838, LONG, 0, 0), (50839, 1, 0, 0)] if number == 0 else []),
            (51123, ASCII, len(words), words_at),
        ]
        assert len(made) == tags
        body += struct.pack("<H", tags)
        for tag in made:
            if tag[0] == 270 and 270 not in later:
                later[270] = at + len(body)
            body += struct.pack("<HHII", *tag)
        last = number == len(todo) - 1
        body += struct.pack("<I", 0 if last else end + extra)
        body += data + struct.pack("<4I", 100000, 1, 100000, 1) + words + bytes(extra)
        if where is not None:
            p, t, c, z = where
            rows.append((c, z, t, p, start))
    ends = [0, 0, 0, 0]
    if finished:
        text = ome.encode() + b"\0"
        place = later[270] - at
        body[place : place + 12] = struct.pack("<HHII", 270, ASCII, len(text), at + len(body))
        body += text
        ends = [483765892, at + len(body)]
        body += struct.pack("<II", 347834724, 2) + b"[]"
        ends += [99384722, at + len(body)]
        body += struct.pack("<II", 84720485, 2) + b"{}"
    header = struct.pack("<HHI", 0x4949, 42, at)
    header += struct.pack("<II", 54773648, 40 + len(told))
    header += struct.pack("<4I", *ends) + struct.pack("<II", 2355492, len(told))
    index = struct.pack("<II", 3453623, entries)
    index += b"".join(struct.pack("<5I", *row) for row in rows)
    index += bytes(20 * (entries - len(rows)))
    path.write_bytes(header + told + index + bytes(body))


def ome_xml(
    files: dict[str, dict[tuple[int, int, int, int], np.ndarray]],
    *,
    voxel: str = "",
    sizes: tuple[int, int, int],
    links: dict[tuple[int, int, int, int], tuple[int, int, int, int]] | None = None,
) -> str:
    """OME-XML of a whole set; `links` are planes that are not there, with those that stand in for them."""
    where = {at: (name, ifd) for name, planes in files.items() for ifd, at in enumerate(planes)}
    where |= {missing: where[other] for missing, other in (links or {}).items()}
    names = {name: f"urn:uuid:{uuid.uuid4()}" for name in files}
    any_plane = next(iter(next(iter(files.values())).values()))
    height, width = any_plane.shape
    n_t, n_c, n_z = sizes
    images = ""
    for p in sorted({at[0] for at in where}):
        data = "".join(
            f'<TiffData FirstC="{c}" FirstT="{t}" FirstZ="{z}" IFD="{ifd}" PlaneCount="1">'
            f'<UUID FileName="{name}">{names[name]}</UUID></TiffData>'
            for (q, t, c, z), (name, ifd) in where.items()
            if q == p
        )
        channels = "".join(
            f'<Channel ID="Channel:{p}:{c}" Name="{SUMMARY["ChNames"][c]}" SamplesPerPixel="1"/>'
            for c in range(n_c)
        )
        images += (
            f'<Image ID="Image:{p}" Name="run_MMStack"><Pixels BigEndian="false" '
            f'DimensionOrder="XYZCT" ID="Pixels:{p}" {voxel} SizeC="{n_c}" SizeT="{n_t}" SizeX="{width}" '
            f'SizeY="{height}" SizeZ="{n_z}" Type="uint{8 * any_plane.itemsize}">'
            f"{channels}{data}</Pixels></Image>"
        )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{images}</OME> '
    )


def pointer(master: str) -> str:
    """OME-XML of the other files of a set."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<BinaryOnly MetadataFile="{master}" UUID="urn:uuid:{uuid.uuid4()}"/></OME> '
    )


def write_set(
    folder: Path,
    volumes: dict[str, np.ndarray],
    *,
    name: str = "run",
    missing: tuple[tuple[int, int, int, int], ...] = (),
    summary: dict[str, Any] | None = None,
    plane: dict[str, Any] | None = None,
    voxel: str = "",
    links: bool = True,
) -> list[Path]:
    """Write (t, c, z, y, x) of each position into a file of its own, as the program does by default."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, dict[tuple[int, int, int, int], np.ndarray]] = {}
    for p, (label, pixels) in enumerate(volumes.items()):
        files[f"{name}_MMStack_{label}.ome.tif"] = {
            (p, t, c, z): pixels[t, c, z]
            for t in range(pixels.shape[0])
            for c in range(pixels.shape[1])
            for z in range(pixels.shape[2])
            if (p, t, c, z) not in missing
        }
    n_t, n_c, n_z = next(iter(volumes.values())).shape[:3]
    stand_ins = {at: (at[0], 0, at[2], 0) for at in missing} if links else {}
    master = next(iter(files))
    height, width = next(iter(volumes.values())).shape[-2:]
    told = {
        **SUMMARY,
        "Prefix": name,
        "Width": width,
        "Height": height,
        "Frames": n_t,
        "Slices": n_z,
        "Channels": n_c,
        "Positions": len(volumes),
        **(summary or {}),
    }
    for file, planes in files.items():
        ome = (
            ome_xml(files, voxel=voxel, sizes=(n_t, n_c, n_z), links=stand_ins)
            if file == master
            else pointer(master)
        )
        write_file(folder / file, planes, summary=told, plane=plane, ome=ome)
    return [folder / file for file in files]
