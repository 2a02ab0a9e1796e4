"""What becomes of a file's constants in float16: infinities, vanishing epsilons, subnormal weights."""

from collections.abc import Iterator, Sequence

import numpy as np

from afterlens.conversion.lint.finding import Hit, Place
from afterlens.conversion.lint.graph import Constant
from afterlens.conversion.lint.ranges import INFINITE_FROM, SMALLEST_NORMAL, SUBNORMAL_SHARE


def constant_hits(constants: Sequence[Constant]) -> Iterator[Hit]:
    """What becomes of a file's constants in float16; what a float16 file stores has become it already."""
    for constant in constants:
        value = np.abs(constant.value)

        def hit(rule: str, detail: str, constant: Constant = constant) -> Hit:
            return Hit(rule, Place("constant", constant.name, constant.layer, detail))

        infinite = int(np.count_nonzero(~(value < INFINITE_FROM)))
        if infinite and constant.role != "limit":
            yield hit("fp16-constant", f"{infinite} of {value.size} constants do not fit into float16")
        small = int(np.count_nonzero((value < SMALLEST_NORMAL) & (value > 0)))
        lone = value.size == 1
        if lone and (small or (constant.role == "epsilon" and not value.all())):
            number = float(constant.value.reshape(-1)[0])
            lost = "0" if np.float16(number) == 0 else "subnormal"
            yield hit("fp16-epsilon", f"{number:.3g} is {lost} in float16")
        elif not lone and small > SUBNORMAL_SHARE * value.size:
            yield hit(
                "fp16-subnormal", f"{small / value.size:.1%} of {value.size} weights are subnormal in float16"
            )
