"""Simulate the point spread function of a display."""

from pathlib import Path
from typing import Annotated

import typer

from afterlens.options import AsJson
from afterlens.output import library_output_on_stderr, show, table
from afterlens.training.media.errors import UserError


def psf(
    pattern: Annotated[
        Path,
        typer.Argument(metavar="PATTERN", help="Picture of the panel: black blocks light, white passes it."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="NumPy file to write, .npy.")],
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PNG in logarithmic brightness, five decades.")
    ] = None,
    pitch: Annotated[float, typer.Option(metavar="UM", help="Size of one PATTERN pixel on the panel.")] = 1.0,
    focal_length: Annotated[
        float, typer.Option(metavar="MM", help="Focal length of the lens, not the 35 mm equivalent.")
    ] = 3.8,
    aperture: Annotated[float, typer.Option(metavar="MM", help="Diameter: focal length / f-number.")] = 1.9,
    sensor_pixel: Annotated[
        float, typer.Option(metavar="UM", help="Size of one photo pixel on the sensor.")
    ] = 1.12,
    wavelengths: Annotated[
        str, typer.Option(metavar="R,G,B", help="Middle of each channel, nm.")
    ] = "610,540,460",
    bandwidth: Annotated[
        float, typer.Option(metavar="NM", help="Bandwidth of a channel, at half its height.")
    ] = 50.0,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Side of the result, odd.")] = 257,
    as_json: AsJson = False,
) -> None:
    """
    afterlens psf afterlens/samples/panels/pentile.png -o build/psf.npy --preview build/psf.png

    Compute what a display in front of the camera makes of a point of light.

    PATTERN may be one period of the panel, repeated to fill the aperture; of a larger picture the middle
    is used. FILE holds float32 (3, PIXELS, PIXELS): red, green and blue, each summing to 1.
    """
    from afterlens.training.udc.psf import Optics, simulate

    with library_output_on_stderr():
        optics = Optics(pitch, focal_length, aperture, sensor_pixel, _three_numbers(wavelengths), bandwidth)
        result = simulate(pattern, optics, size, out, preview)
    files = [("PSF", result["psf"]), *([("preview", result["preview"])] if preview else [])]
    shares = [
        (name, " ".join(f"{share:.3f}" for share in result[key]))
        for name, key in (
            ("light within the window (R, G, B)", "captured"),
            ("share of it on the middle pixel", "middle_pixel"),
        )
    ]
    rows = [*files, ("light through the panel", f"{result['transmission']:.3f}"), *shares]
    show(result, as_json, lambda: table(("", f"{size}x{size} pixels"), rows))


def _three_numbers(text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{text!r}: expected three numbers for R,G,B, for example 610,540,460") from None
    return red, green, blue
