"""Names of versions, computed as natively as the transports need them."""

def make_cid(ufs_id: bytes, key: bytes, token: bytes) -> bytes:
    """What ``base.ident.make_cid`` says, which is the reference."""
