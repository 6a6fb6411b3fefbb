"""Which bucket, key and operation a request means.  P.

A host is path style (``/bucket/key``) when it is an address, ``localhost`` or a known domain; ``bucket.DOMAIN`` is
virtual-host style for known domains, addresses and the service's own names (``bucket.oss-cn-hangzhou.aliyuncs.com``);
any other host is a CNAME when the table has it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from jindopy.emulator.errors import Refused
from jindopy.emulator.http import Request

_ADDRESS = re.compile(r"\[[0-9a-fA-F:.]+\]|[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_VIRTUAL_ADDRESS = re.compile(r"([a-z0-9][a-z0-9-]{1,61}[a-z0-9])\.([0-9]{1,3}(?:\.[0-9]{1,3}){3})")
_SERVICE = re.compile(r"(?:(?P<bucket>[a-z0-9][a-z0-9-]{1,61}[a-z0-9])\.)?oss-[a-z0-9-]+\.aliyuncs\.com")

# (method, sub-resource) → operation; the empty sub-resource is the plain request.
_SERVICE_OPERATIONS: Final = {("GET", ""): "ListBuckets"}
_BUCKET_OPERATIONS: Final = {
    ("GET", ""): "ListObjects",
    ("GET", "bucketInfo"): "GetBucketInfo",
    ("GET", "location"): "GetBucketLocation",
    ("GET", "stat"): "GetBucketStat",
    ("GET", "acl"): "GetBucketAcl",
    ("GET", "uploads"): "ListMultipartUploads",
    ("HEAD", ""): "GetBucketInfo",
    ("PUT", ""): "PutBucket",
    ("PUT", "acl"): "PutBucketAcl",
    ("DELETE", ""): "DeleteBucket",
    ("POST", "delete"): "DeleteMultipleObjects",
}
_OBJECT_OPERATIONS: Final = {
    ("GET", ""): "GetObject",
    ("HEAD", ""): "HeadObject",
    ("GET", "objectMeta"): "GetObjectMeta",
    ("HEAD", "objectMeta"): "GetObjectMeta",
    ("GET", "symlink"): "GetSymlink",
    ("GET", "acl"): "GetObjectAcl",
    ("PUT", ""): "PutObject",
    ("PUT", "symlink"): "PutSymlink",
    ("PUT", "uploadId"): "UploadPart",
    ("GET", "uploadId"): "ListParts",
    ("POST", "uploads"): "InitiateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("POST", "restore"): "RestoreObject",
    ("DELETE", ""): "DeleteObject",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
}
_SUBRESOURCES: Final = (
    {name for _, name in (*_BUCKET_OPERATIONS, *_OBJECT_OPERATIONS)}
    | {"append", "cors", "lifecycle", "logging", "policy", "referer", "tagging", "versioning", "website"}
) - {""}

OPERATIONS: Final = (
    *sorted(
        {*_SERVICE_OPERATIONS.values(), *_BUCKET_OPERATIONS.values(), *_OBJECT_OPERATIONS.values()}
        | {"CopyObject", "UploadPartCopy", "ListObjectsV2"}
    ),
    "Other",
)
"""Every operation's name; ``Other`` is what is not implemented or not understood."""


class Route(NamedTuple):
    """Where a request goes."""

    bucket: str
    """Empty: the service itself."""
    key: bytes
    """Empty: the bucket itself."""
    operation: str


class Hosts(NamedTuple):
    """Names the server goes by."""

    domains: frozenset[str] = frozenset({"localhost"})
    cnames: Mapping[str, str] = {}
    """Host → bucket."""


def route(request: Request, hosts: Hosts) -> Route:
    """Where a request goes; raises Refused for an unknown host."""
    bucket, key = _bucket_and_key(request, hosts)
    return Route(bucket, key, _operation(request, bucket, key))


def _bucket_and_key(request: Request, hosts: Hosts) -> tuple[str, bytes]:
    host = request.headers.get("host", "")
    name = host.lower()
    colon = name.rfind(":")
    if colon >= 0 and name[colon + 1 :].isdigit():
        name = name[:colon]
    path = request.path
    if not name or name in hosts.domains or _ADDRESS.fullmatch(name):
        bucket, _, key = path[1:].partition(b"/")
        return bucket.decode("utf-8", "replace"), key
    bucket_name, _, rest = name.partition(".")
    if rest in hosts.domains or _VIRTUAL_ADDRESS.fullmatch(name):
        return bucket_name, path[1:]
    service = _SERVICE.fullmatch(name)
    if service is not None:
        if service["bucket"] is None:
            bucket, _, key = path[1:].partition(b"/")
            return bucket.decode("utf-8", "replace"), key
        return service["bucket"], path[1:]
    if name in hosts.cnames:
        return hosts.cnames[name], path[1:]
    raise Refused(
        403, "AccessDenied", f"No bucket is bound to the host {host}; name it by --domain or --cname.", close=True
    )


def _operation(request: Request, bucket: str, key: bytes) -> str:
    query = request.query
    method = request.method
    subresource = next((name for name in query if name in _SUBRESOURCES), "") if query else ""
    if not bucket:
        return _SERVICE_OPERATIONS.get((method, subresource), "Other")
    if not key:
        operation = _BUCKET_OPERATIONS.get((method, subresource), "Other")
        return "ListObjectsV2" if operation == "ListObjects" and query.get("list-type") == "2" else operation
    if subresource == "uploads" and "uploadId" in query:
        subresource = "uploadId"
    operation = _OBJECT_OPERATIONS.get((method, subresource), "Other")
    if "x-oss-copy-source" in request.headers:
        return {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}.get(operation, operation)
    return operation
