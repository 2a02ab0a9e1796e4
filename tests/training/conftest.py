"""Pictures that the losses are measured on."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor


@pytest.fixture
def pair(photo: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Two views of a real photo, each (2, 3, 64, 48)."""
    whole = torch.from_numpy(photo).permute(2, 0, 1)
    one = torch.stack([whole[:, 100:164, 200:248], whole[:, 300:364, 500:548]])
    other = torch.stack([whole[:, 102:166, 201:249], whole[:, 300:364, 500:548] * 0.8])
    return one.contiguous(), other.contiguous()
