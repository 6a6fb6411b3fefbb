"""Operations on one object: get, head, put, copy, delete, symlinks, restore.

Each function takes a ``Call`` and returns an answer, a ``Later`` or a sink.  Nothing here holds a body in memory: GET
answers with a descriptor and a range, PUT writes what arrives.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from jindopy.emulator.answers import Answer, Call, DocumentSink, FileBody, Later, Response, fields, xml
from jindopy.emulator.errors import Refused, decimal, invalid_argument, no_such_key
from jindopy.emulator.listing import OWNER, iso_time
from jindopy.emulator.objects import ARCHIVE_CLASSES, READ_BYTES, STORAGE_CLASSES, ObjectInfo, Store, Writing
from jindopy.emulator.preconditions import byte_range, check
from jindopy.emulator.synthetic import Synthetic

PUT_BYTES_MAX: Final = 5 << 30
USER_METADATA_BYTES_MAX: Final = 8 << 10
COPY_CHUNK_BYTES: Final = 8 << 20
RESTORED_SECONDS: Final = 86_400
_LOOK_ASIDE: Final = READ_BYTES
"""A dropped file up to this size has its CRC computed on the event loop (0.1 ms), a larger one in a worker thread."""

_STORED_HEADERS: Final = ("content-type", "cache-control", "content-disposition", "content-encoding", "expires")
_OVERRIDES: Final = {
    "response-content-type": "Content-Type",
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-expires": "Expires",
}


@lru_cache(maxsize=4096)
def http_date(seconds: int) -> str:
    """Time as HTTP has it."""
    return formatdate(seconds, usegmt=True)


class _Found(NamedTuple):
    """An open object, maybe by way of a link."""

    body: FileBody
    key: bytes
    info: ObjectInfo
    link: ObjectInfo | None = None

    @property
    def shown(self) -> ObjectInfo:
        """What is answered: a link shows its target's length and digests, the later of both times, and its own type."""
        if self.link is None:
            return self.info
        mtime_ns = max(self.info.mtime_ns, self.link.mtime_ns)
        return replace(self.info, mtime_ns=mtime_ns, kind=self.link.kind, rendered="")


class ObjectOperations:
    """The operations over one store."""

    def __init__(self, store: Store, synthetic: Synthetic) -> None:
        self._store = store
        self._synthetic = synthetic

    def _open(self, bucket: str, key: bytes) -> _Found:
        """An object or the one a symlink points at; raises Refused."""
        body, info = self._open_itself(bucket, key)
        if info.kind != "Symlink":
            return _Found(body, key, info)
        body.close()
        link, target = info, info.target or b""
        try:
            body, info = self._open_itself(bucket, target)
        except Refused as refused:
            if refused.status != 404:
                raise
            raise Refused(
                404, "SymlinkTargetNotExist", "The symlink target object does not exist.", details=refused.details
            ) from None
        if info.kind == "Symlink":
            body.close()
            raise Refused(400, "InvalidTargetType", "The symlink target is a symlink itself.")
        return _Found(body, target, info, link)

    def _open_itself(self, bucket: str, key: bytes) -> tuple[FileBody, ObjectInfo]:
        if bucket in self._synthetic.buckets:
            return self._synthetic.open(bucket, key)
        fd, info = self._store.open(bucket, key)
        return FileBody(fd, 0, info.size), info

    def get_object(self, call: Call) -> Answer:
        """GET: whole or a range, conditional, header overrides."""
        found = self._open(call.bucket, call.key)
        info = found.info
        try:
            if info.storage_class in ARCHIVE_CLASSES and info.restored_until <= call.now_seconds:
                raise Refused(
                    403, "InvalidObjectState", "The operation is not valid for the object's state",
                    details=(("ObjectName", call.key.decode()),),
                )  # fmt: skip
            if info.crc64 is None:
                if info.size > _LOOK_ASIDE:
                    return Later(lambda: self._get_after_crc(call, found))
                self._store.fill_crc(call.bucket, found.key, found.body.fd, info)
            return self._get(call, found.body, found.shown)
        except BaseException:
            found.body.close()
            raise

    def _get_after_crc(self, call: Call, found: _Found) -> Response:
        try:
            self._store.fill_crc(call.bucket, found.key, found.body.fd, found.info)
            return self._get(call, found.body, found.shown)
        except BaseException:
            found.body.close()
            raise

    def _get(self, call: Call, body: FileBody, info: ObjectInfo) -> Response:
        request = call.request
        if check(request.headers, info.etag, info.mtime_ns):
            body.close()
            return Response(304, fields(("ETag", f'"{info.etag}"'), ("Last-Modified", _modified(info))))
        status, text = 200, _rendered(info)
        asked = byte_range(request.headers, info.size)
        if asked is not None:
            offset, length = asked
            status = 206
            text += f"Content-Range: bytes {offset}-{offset + length - 1}/{info.size}\r\n"
            body.offset += offset
            body.size = length
        if request.query:
            text = _overridden(text, request.query)
        return Response(status, text, file=body)

    def head_object(self, call: Call) -> Answer:
        """HEAD: all headers a GET would have."""
        return self._with_crc(call, self._open(call.bucket, call.key), self._head)

    def _with_crc(self, call: Call, found: _Found, answer: Callable[[Call, ObjectInfo], Response]) -> Answer:
        def work() -> Response:
            try:
                self._store.fill_crc(call.bucket, found.key, found.body.fd, found.info)
            finally:
                found.body.close()
            return answer(call, found.shown)

        if found.info.crc64 is not None:
            found.body.close()
            return answer(call, found.shown)
        return Later(work) if found.info.size > _LOOK_ASIDE else work()

    @staticmethod
    def _head(call: Call, info: ObjectInfo) -> Response:
        if check(call.request.headers, info.etag, info.mtime_ns):
            return Response(304, fields(("ETag", f'"{info.etag}"'), ("Last-Modified", _modified(info))))
        text = _rendered(info)
        if info.restored_until:
            until = http_date(info.restored_until)
            text += fields(("x-oss-restore", f'ongoing-request="false", expiry-date="{until}"'))
        return Response(200, text, announced_bytes=info.size)

    def get_object_meta(self, call: Call) -> Answer:
        """The short HEAD: size, ETag, time, CRC; of a symlink, the link's own."""
        body, info = self._open_itself(call.bucket, call.key)
        return self._with_crc(call, _Found(body, call.key, info), self._meta)

    @staticmethod
    def _meta(_: Call, info: ObjectInfo) -> Response:
        text = fields(
            ("ETag", f'"{info.etag}"'), ("Last-Modified", _modified(info)), ("x-oss-hash-crc64ecma", str(info.crc64))
        )
        return Response(200, text, announced_bytes=info.size)

    def get_object_acl(self, call: Call) -> Answer:
        """Every object has its bucket's rights."""
        body, _ = self._open_itself(call.bucket, call.key)
        body.close()
        return xml(
            f"<AccessControlPolicy>{OWNER}<AccessControlList><Grant>default</Grant></AccessControlList>"
            "</AccessControlPolicy>"
        )

    # Writing

    def put_object(self, call: Call) -> Answer:
        """PUT: checked by MD5 and CRC where the request names them."""
        self._writable(call.bucket, call.key)
        if call.request.body_bytes > PUT_BYTES_MAX:
            raise Refused(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
        return PutSink(self._store, call)

    def _writable(self, bucket: str, key: bytes) -> None:
        if bucket in self._synthetic.buckets:
            raise Refused(403, "AccessDenied", "The bucket's objects are made by formula and cannot be changed.")
        self._store.bucket_path(bucket)
        self._store.place(bucket, key)

    def copy_object(self, call: Call) -> Answer:
        """Copy within the server; takes as long as copying the file."""
        self._writable(call.bucket, call.key)
        source_bucket, source_key = copy_source(call.request.headers["x-oss-copy-source"])
        headers = call.request.headers
        directive = headers.get("x-oss-metadata-directive", "COPY").upper()
        if directive not in ("COPY", "REPLACE"):
            raise invalid_argument("COPY or REPLACE is due.", "x-oss-metadata-directive", directive)
        found = self._open(source_bucket, source_key)
        body, info = found.body, found.shown
        try:
            if check(headers, info.etag, info.mtime_ns, "x-oss-copy-source-"):
                body.close()
                return Response(304)
            stored = stored_headers(headers) if directive == "REPLACE" else info.headers
            storage_class = storage_class_of(headers)
        except BaseException:
            body.close()
            raise

        def work() -> Response:
            writing = self._store.begin()
            try:
                copy_into(writing, body, info.size)
                copied = _commit(self._store, call, writing, storage_class, stored)
            finally:
                writing.abort()
                body.close()
            return xml(
                f'<CopyObjectResult><ETag>"{copied.etag}"</ETag><LastModified>{iso_time(copied.mtime_ns // 10**9)}'
                "</LastModified></CopyObjectResult>",
                fields(("ETag", f'"{copied.etag}"'), ("x-oss-hash-crc64ecma", str(copied.crc64))),
            )

        return Later(work)

    def delete_object(self, call: Call) -> Answer:
        """DELETE: 204 whether it was there or not."""
        self._writable(call.bucket, call.key)
        self._store.delete(call.bucket, call.key)
        return Response(204)

    # Symlinks and archives

    def put_symlink(self, call: Call) -> Answer:
        """A link to a key of the same bucket; whether that exists is not asked."""
        self._writable(call.bucket, call.key)
        headers = call.request.headers
        target = unquote_to_bytes(headers.get("x-oss-symlink-target", "").encode("latin-1"))
        if not target:
            raise invalid_argument("The target is missing.", "x-oss-symlink-target", "")
        self._store.place(call.bucket, target)
        stored = stored_headers(headers)
        storage_class = storage_class_of(headers)

        def handle(_: bytes) -> Response:
            writing = self._store.begin()
            try:
                info = _commit(self._store, call, writing, storage_class, stored, link_target=target)
            finally:
                writing.abort()
            return Response(200, fields(("ETag", f'"{info.etag}"')))

        return DocumentSink(handle)

    def get_symlink(self, call: Call) -> Answer:
        """Where a link points."""
        body, info = self._open_itself(call.bucket, call.key)
        body.close()
        if info.kind != "Symlink" or info.target is None:
            raise Refused(400, "NotSymlink", "The object you specified is not a symlink.")
        return Response(
            200,
            fields(
                ("x-oss-symlink-target", quote(info.target, safe="/")),
                ("ETag", f'"{info.etag}"'),
                ("Last-Modified", _modified(info)),
            ),
        )

    def restore_object(self, call: Call) -> Answer:
        """Make an archived object readable; here it is at once, for a day."""
        info = self._store.info(call.bucket, call.key)
        if info.storage_class not in ARCHIVE_CLASSES:
            raise Refused(400, "OperationNotSupported", "The operation is not supported for this storage class.")

        def handle(_: bytes) -> Response:
            first = info.restored_until <= call.now_seconds
            info.restored_until = int(call.now_seconds) + RESTORED_SECONDS
            self._store.update(call.bucket, call.key, info)
            return Response(202 if first else 200)

        return DocumentSink(handle)


class PutSink:
    """Streams a PUT's body to disk."""

    def __init__(self, store: Store, call: Call) -> None:
        self._store = store
        self._call = call
        headers = call.request.headers
        self._headers = stored_headers(headers)
        self._storage_class = storage_class_of(headers)
        self._digests = expected_digests(headers)
        self._writing = store.begin()

    def write(self, data: memoryview) -> None:
        """Append; raises Refused beyond 5 GiB."""
        if self._writing.size + len(data) > PUT_BYTES_MAX:
            raise Refused(
                400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.", close=True
            )
        self._writing.write(data)

    def finish(self) -> Response:
        """Check the digests and make the object."""
        writing, call = self._writing, self._call
        try:
            check_digests(writing, self._digests)
            info = _commit(self._store, call, writing, self._storage_class, self._headers)
        finally:
            writing.abort()
        return Response(200, written_fields(writing, info.etag))

    def abort(self) -> None:
        """Leave nothing."""
        self._writing.abort()


def _commit(
    store: Store,
    call: Call,
    writing: Writing,
    storage_class: str,
    headers: dict[str, str],
    *,
    link_target: bytes | None = None,
) -> ObjectInfo:
    """Make what one request wrote the object it names; raises Refused."""
    return store.commit(
        call.bucket,
        call.key,
        writing,
        etag=writing.md5_digest.hex().upper(),
        crc=writing.crc64,
        kind="Normal" if link_target is None else "Symlink",
        storage_class=storage_class,
        headers=headers,
        target=link_target,
        overwrite=call.request.headers.get("x-oss-forbid-overwrite") != "true",
    )


def written_fields(writing: Writing, etag: str) -> str:
    """Header fields that tell a writer what arrived."""
    return fields(
        ("ETag", f'"{etag}"'),
        ("Content-MD5", base64.b64encode(writing.md5_digest).decode()),
        ("x-oss-hash-crc64ecma", str(writing.crc64)),
    )


def expected_digests(headers: dict[str, str]) -> tuple[bytes | None, int | None]:
    """MD5 and CRC the request announces; raises Refused when malformed."""
    md5_text, crc_text = headers.get("content-md5"), headers.get("x-oss-hash-crc64ecma")
    md5_digest, crc = None, None
    if md5_text is not None:
        try:
            md5_digest = base64.b64decode(md5_text, validate=True)
        except ValueError:
            md5_digest = b""
        if len(md5_digest) != 16:
            raise Refused(
                400, "InvalidDigest", "The Content-MD5 you specified is invalid.", details=(("Content-MD5", md5_text),)
            )
    if crc_text is not None:
        crc = decimal(crc_text, 0, (1 << 64) - 1)
        if crc is None:
            raise invalid_argument("The CRC is no 64-bit number.", "x-oss-hash-crc64ecma", crc_text)
    return md5_digest, crc


def check_digests(writing: Writing, expected: tuple[bytes | None, int | None]) -> None:
    """Raise Refused when what arrived is not what was announced."""
    md5_digest, crc = expected
    if md5_digest is not None and md5_digest != writing.md5_digest:
        raise Refused(
            400,
            "InvalidDigest",
            "The Content-MD5 you specified did not match what we received.",
            details=(
                ("ExpectedDigest", base64.b64encode(md5_digest).decode()),
                ("CalculatedDigest", base64.b64encode(writing.md5_digest).decode()),
            ),
        )
    if crc is not None and crc != writing.crc64:
        raise Refused(
            400,
            "InvalidArgument",
            "The x-oss-hash-crc64ecma you specified did not match what we received.",
            details=(
                ("ArgumentName", "x-oss-hash-crc64ecma"),
                ("ArgumentValue", str(crc)),
                ("CalculatedCrc64", str(writing.crc64)),
            ),
        )


def stored_headers(headers: dict[str, str]) -> dict[str, str]:
    """What is kept with an object; raises Refused when the user metadata is too large."""
    user = {name: value for name, value in headers.items() if name.startswith("x-oss-meta-")}
    if sum(len(name) + len(value) for name, value in user.items()) > USER_METADATA_BYTES_MAX:
        raise Refused(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size.")
    return {name: headers[name] for name in _STORED_HEADERS if name in headers} | user


def storage_class_of(headers: dict[str, str]) -> str:
    """The asked storage class; raises Refused for an unknown one."""
    storage_class = headers.get("x-oss-storage-class", "Standard")
    if storage_class not in STORAGE_CLASSES:
        raise invalid_argument("The storage class is not known.", "x-oss-storage-class", storage_class)
    return storage_class


def copy_source(text: str) -> tuple[str, bytes]:
    """``/bucket/key`` percent-encoded → bucket and key; raises Refused."""
    path = unquote_to_bytes(text.encode("latin-1")).removeprefix(b"/")
    bucket, slash, key = path.partition(b"/")
    if not slash or not key:
        raise invalid_argument("Copy Source must mention the source bucket and key.", "x-oss-copy-source", text)
    return bucket.decode("utf-8", "replace"), key


def copy_into(writing: Writing, body: FileBody, size: int, offset: int = 0) -> None:
    """Append a range of a body to a file, digests included; raises Refused when the file is shorter by now."""
    position, end = body.offset + offset, body.offset + offset + size
    while position < end:
        at = position % body.period_bytes if body.period_bytes else position
        want = min(COPY_CHUNK_BYTES, end - position, body.period_bytes - at if body.period_bytes else COPY_CHUNK_BYTES)
        data = os.pread(body.fd, want, at)
        if not data:
            raise no_such_key(b"")
        writing.write(data)
        position += len(data)


def _modified(info: ObjectInfo) -> str:
    return http_date(info.mtime_ns // 1_000_000_000)


def _rendered(info: ObjectInfo) -> str:
    if not info.rendered or info.crc64 is None:
        pairs = [
            ("ETag", f'"{info.etag}"'),
            ("Last-Modified", _modified(info)),
            ("Accept-Ranges", "bytes"),
            ("x-oss-object-type", info.kind),
            ("x-oss-storage-class", info.storage_class),
            ("x-oss-server-time", "1"),
        ]
        if info.crc64 is not None:
            pairs.append(("x-oss-hash-crc64ecma", str(info.crc64)))
        headers = {"content-type": "application/octet-stream"} | info.headers
        pairs += [(name if name.startswith("x-") else name.title(), value) for name, value in headers.items()]
        info.rendered = fields(*pairs)
    return info.rendered


def _overridden(text: str, query: dict[str, str]) -> str:
    for name, header in _OVERRIDES.items():
        if name in query:
            lines = [line for line in text.split("\r\n") if line and not line.startswith(header + ":")]
            text = "\r\n".join(lines) + "\r\n" + fields((header, query[name]))
    return text
