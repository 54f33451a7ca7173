"""Whoever has no certificate."""

import asyncio

import pytest
from distributed.comm import connect


def assert_refused(address: str) -> None:
    """Nobody gets through to a `tls://` address without a certificate, by TLS or without."""
    for stranger in (address, address.replace("tls://", "tcp://")):
        # No Client: a failed one may be collected in the thread of the next, and wait there for ever.
        with pytest.raises((OSError, TypeError)):
            asyncio.run(connect(stranger, timeout=2))
