"""The hash function of ids and code digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import blake2b
else:
    try:
        # hashlib would load OpenSSL, which takes longer than all the rest that a pipeline imports of kart.
        from _blake2 import blake2b
    except ImportError:
        from hashlib import blake2b

__all__ = ["blake2b", "digest16"]


def digest16(data: bytes) -> bytes:
    """The 16 bytes of BLAKE2b by which tasks and code are compared.

    Example:
        >>> digest16(b"kart").hex()
        '302e894878ac3aa256716569a3267ea3'
    """
    return blake2b(data, digest_size=16).digest()
