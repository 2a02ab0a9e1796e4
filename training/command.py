"""What the command lines of modules share: those of the ablations, of the judge and of the identity encoder."""

import json
import sys
from collections.abc import Callable
from typing import Any

from afterlens.training.media.errors import UserError


def answer(work: Callable[[], Any]) -> int:
    """Print the result of ``work`` as one JSON document, or its UserError as one line on stderr; the exit code, 0 or 2."""
    try:
        result = work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result))
    return 0
