"""The MIL operators that the executor knows: `OPERATORS` maps an operator type to a function, one module for each kind.

A function takes the operator's inputs as keyword arguments under MIL's parameter names, with MIL's defaults (saved
programs leave many out). It returns an array, or a tuple for several outputs. Floating-point inputs arrive as float32,
whatever their declared type; the caller casts the result to the declared type. Semantics follow coremltools 9.0's
operator definitions. Where an operator changed between iOS versions, both forms are accepted.
"""

from __future__ import annotations

from afterlens.conversion.mil.ops.arrays import Operator
from afterlens.conversion.mil.ops.compressed import COMPRESSED
from afterlens.conversion.mil.ops.convolution import CONVOLUTION
from afterlens.conversion.mil.ops.create import CREATE
from afterlens.conversion.mil.ops.elementwise import ELEMENTWISE
from afterlens.conversion.mil.ops.gather import GATHER
from afterlens.conversion.mil.ops.matmul import MATMUL
from afterlens.conversion.mil.ops.normalize import NORMALIZE
from afterlens.conversion.mil.ops.pooling import POOLING
from afterlens.conversion.mil.ops.rearrange import REARRANGE
from afterlens.conversion.mil.ops.reduce import REDUCE
from afterlens.conversion.mil.ops.resample import RESAMPLE
from afterlens.conversion.mil.ops.resize import RESIZE
from afterlens.conversion.mil.ops.shape import SHAPE

TUPLE_PARAMETERS = frozenset({"values", "ref_tensors", "begins", "ends", "end_masks"})
"""Parameters that hold a tuple of tensors even when there is only one."""

OPERATORS: dict[str, Operator] = {
    **COMPRESSED,
    **CONVOLUTION,
    **CREATE,
    **ELEMENTWISE,
    **GATHER,
    **MATMUL,
    **NORMALIZE,
    **POOLING,
    **REARRANGE,
    **REDUCE,
    **RESAMPLE,
    **RESIZE,
    **SHAPE,
}
