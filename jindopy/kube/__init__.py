"""Kubernetes: what Fluid users write and read, as types, schemas and (to come) controllers."""
