"""Number formats that this processor has instructions for.

Invariant: a format without instructions costs time and changes no result.
"""

import torch


def has_bfloat16() -> bool:
    """True if this processor has instructions for bfloat16 (AVX512_BF16, AMX, Arm's BF16).

    Without them PyTorch imitates bfloat16 by float32, and a step of training takes about twice as long as in float32.
    """
    return any(there for name, there in torch.cpu.get_capabilities().items() if name.endswith("bf16"))
