"""The table from operation to handler, and the control endpoint beside it.

``/-/emulator/stats`` (GET; DELETE sets the counters to 0) and ``/-/emulator/conditions`` (GET; PUT replaces them)
answer only peers on the loopback interface and take no signature; ``-`` is no bucket name, so no object hides there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from jindopy.base.clock import Clock
from jindopy.emulator.answers import Answer, Call, DocumentSink, Response
from jindopy.emulator.bucket_operations import BucketOperations
from jindopy.emulator.errors import Refused
from jindopy.emulator.faults import Conditions
from jindopy.emulator.listing import DiskDirectories
from jindopy.emulator.multipart import MultipartOperations
from jindopy.emulator.object_operations import ObjectOperations
from jindopy.emulator.objects import Store
from jindopy.emulator.routing import OPERATIONS
from jindopy.emulator.shared import Shared
from jindopy.emulator.synthetic import Synthetic, SyntheticBucket

CONTROL_BUCKET = "-"


class Service:
    """All operations over one root; make it in the process that uses it."""

    def __init__(
        self, root: Path, synthetic_buckets: tuple[SyntheticBucket, ...], region: str, shared: Shared, clock: Clock
    ) -> None:
        self._shared = shared
        self._store = Store(root, clock)
        synthetic = Synthetic(synthetic_buckets)
        objects = ObjectOperations(self._store, synthetic)
        buckets = BucketOperations(self._store, synthetic, DiskDirectories(self._store, clock.monotonic), region)
        multipart = MultipartOperations(self._store, synthetic)
        self._handlers: dict[str, Callable[[Call], Answer]] = {
            "AbortMultipartUpload": multipart.abort,
            "CompleteMultipartUpload": multipart.complete,
            "CopyObject": objects.copy_object,
            "DeleteBucket": buckets.delete_bucket,
            "DeleteMultipleObjects": buckets.delete_multiple_objects,
            "DeleteObject": objects.delete_object,
            "GetBucketAcl": buckets.get_bucket_acl,
            "GetBucketInfo": buckets.get_bucket_info,
            "GetBucketLocation": buckets.get_bucket_location,
            "GetBucketStat": buckets.get_bucket_stat,
            "GetObject": objects.get_object,
            "GetObjectAcl": objects.get_object_acl,
            "GetObjectMeta": objects.get_object_meta,
            "GetSymlink": objects.get_symlink,
            "HeadObject": objects.head_object,
            "InitiateMultipartUpload": multipart.initiate,
            "ListBuckets": buckets.list_buckets,
            "ListMultipartUploads": multipart.list_uploads,
            "ListObjects": buckets.list_objects,
            "ListObjectsV2": buckets.list_objects_v2,
            "ListParts": multipart.list_parts,
            "Other": self._not_implemented,
            "PutBucket": buckets.put_bucket,
            "PutBucketAcl": buckets.put_bucket_acl,
            "PutObject": objects.put_object,
            "PutSymlink": objects.put_symlink,
            "RestoreObject": objects.restore_object,
            "UploadPart": multipart.upload_part,
            "UploadPartCopy": multipart.upload_part_copy,
        }
        assert self._handlers.keys() == set(OPERATIONS)

    def close(self) -> None:
        """Close files."""
        self._store.close()

    def handle(self, operation: str, call: Call) -> Answer:
        """Answer a request whose signature holds; raises Refused."""
        return self._handlers[operation](call)

    @staticmethod
    def _not_implemented(call: Call) -> Answer:
        raise Refused(
            501,
            "NotImplemented",
            f"{call.request.method} with these parameters is not implemented by this server.",
            close=True,
        )

    def control(self, call: Call, *, peer_is_local: bool) -> Answer:
        """Counters and conditions; raises Refused."""
        if not peer_is_local:
            raise Refused(
                403, "AccessDenied", "The control endpoint answers only on the loopback interface.", close=True
            )
        request = call.request
        name = call.key.removeprefix(b"emulator/").decode("utf-8", "replace")
        if (request.method, name) == ("GET", "stats"):
            return _json({"counters": self._shared.sums(), "strikes": self._shared.strikes()})
        if (request.method, name) == ("DELETE", "stats"):
            self._shared.reset_counters()
            return Response(204)
        if (request.method, name) == ("GET", "conditions"):
            return _json(self._shared.conditions().to_json())
        if (request.method, name) == ("PUT", "conditions"):
            return DocumentSink(self._set_conditions)
        raise Refused(404, "NoSuchResource", "Known are /-/emulator/stats and /-/emulator/conditions.", close=True)

    def _set_conditions(self, document: bytes) -> Response:
        try:
            self._shared.set_conditions(Conditions.from_json(json.loads(document)))
        except ValueError as error:
            raise Refused(400, "InvalidArgument", str(error)) from None
        return Response(204)


def _json(value: object) -> Response:
    return Response(200, "Content-Type: application/json\r\n", json.dumps(value).encode() + b"\n")
