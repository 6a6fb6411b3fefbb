"""Cache files below one directory; everything but the naming rule is for other native modules."""

def cid_path(cid: bytes) -> str:
    """``ab/abcd...``: where a version's file lies below its tier's directory."""
