"""Transports that translate between the kernel and ``vfs``, and mounting itself."""
