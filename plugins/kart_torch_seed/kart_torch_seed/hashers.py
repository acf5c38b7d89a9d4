"""How torch's values become part of a unique id: a tensor is its dtype, its shape and its bytes in C order.

The device is none of it, nor whether gradients are wanted: they do not change the value. Dtypes
of numpy are known to kart itself.
"""

from __future__ import annotations

import sys
from typing import Any

from kart_core.encoding import EncodingError, encode
from kart_core.plugin import Hasher
from kart_torch_seed import library


def _encode_tensor(tensor: Any) -> bytes:
    torch = library.torch()
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "meta" if tensor.is_meta else "quantized" if tensor.is_quantized else tensor.layout
        raise EncodingError("torch.Tensor", f"a tensor that is {kind} has no canonical form: give a dense one")
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return encode((str(tensor.dtype), tuple(tensor.shape), _little_endian(plain)))


def _little_endian(tensor: Any) -> bytes:
    torch = library.torch()
    data = tensor.reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "big":
        parts = 2 if tensor.is_complex() else 1
        data = data.reshape(-1, tensor.element_size() // parts)[:, ::-1]
    return data.tobytes()


def _encode_size(size: Any) -> bytes:
    return encode(tuple(size))


def _encode_text(value: Any) -> bytes:
    return encode(str(value))


def records() -> list[Hasher]:
    """The hashers of torch's types."""
    return [
        Hasher("torch.Tensor", encode=_encode_tensor),
        Hasher("torch.Size", encode=_encode_size),
        Hasher("torch.dtype", encode=_encode_text),
        Hasher("torch.device", encode=_encode_text),
    ]
