"""Show bundles live in the browser."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from afterlens.options import AsJson
from afterlens.output import library_output_on_stderr, show, table


def live(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE", help="Folders written by `afterlens convert`.")
    ],
    port: Annotated[
        int, typer.Option(metavar="NUMBER", min=0, max=65535, help="Of the address; 0: any free one.")
    ] = 8765,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Where to listen. Browsers give the camera to other computers only over https, so another address "
            "needs a proxy that adds it.",
        ),
    ] = "127.0.0.1",
    as_json: AsJson = False,
) -> None:
    """
    afterlens convert udc -o build/udc --size 256x256 --variants float16.tflite && afterlens live build/udc

    Show bundles live in the browser: the camera, clips and photos, before and after.

    The page runs the TFLite files by itself, on the processor or by WebGPU. Nothing leaves this computer, and only it can
    open the page. Ctrl-C ends it.
    """
    from afterlens.page_server import open_server

    with library_output_on_stderr():
        server, address, names = open_server(bundles, host, port)
    with server:
        result = {"address": address, "bundles": names}
        show(result, as_json, lambda: table(("open in a browser", "bundles"), [(address, ", ".join(names))]))
        sys.stdout.flush()
        server.serve_forever()
