"""Multipart uploads: parts are files of ROOT/.jindopy-emulator/uploads/ID until they are joined into one.

A part is written like an object: to a temporary file, then renamed, then its row.  Completing checks numbers, ETags and
sizes, joins the files in the kernel (``copy_file_range``) in a worker thread, and combines the parts' CRCs, so the
bytes are not read again.  The ETag is that of the real service's kind: MD5 of the parts' MD5s, and their count.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from hashlib import md5
from typing import Final

from jindopy._ext.crc64 import combine
from jindopy.emulator.answers import Answer, Call, DocumentSink, FileBody, Later, Response, fields, xml
from jindopy.emulator.bucket_operations import malformed_xml, parse_xml
from jindopy.emulator.errors import (
    Refused,
    decimal,
    invalid_argument,
    no_such_key,
    no_such_upload,
    number_parameter,
    xml_text,
)
from jindopy.emulator.listing import iso_time, key_encoder
from jindopy.emulator.metadata import PartRow, UploadRow
from jindopy.emulator.object_operations import (
    PUT_BYTES_MAX,
    check_digests,
    copy_into,
    copy_source,
    expected_digests,
    storage_class_of,
    stored_headers,
    written_fields,
)
from jindopy.emulator.objects import ObjectInfo, Store, Writing
from jindopy.emulator.preconditions import byte_range, check
from jindopy.emulator.synthetic import Synthetic

PARTS_MAX: Final = 10_000
PAGE_MAX: Final = 1000
PART_BYTES_MIN: Final = 100 << 10
"""The real service's least size of all parts but the last."""


class MultipartOperations:
    """The operations over one store."""

    def __init__(self, store: Store, synthetic: Synthetic) -> None:
        self._store = store
        self._synthetic = synthetic

    def _upload(self, call: Call) -> UploadRow:
        upload_id = call.request.query.get("uploadId", "")
        self._store.bucket_path(call.bucket)
        upload = self._store.metadata.find_upload(upload_id)
        if upload is None or upload.bucket != call.bucket or upload.key != call.key:
            raise no_such_upload(upload_id)
        return upload

    def _directory(self, upload_id: str) -> bytes:
        return self._store.uploads_directory + b"/" + upload_id.encode()

    def initiate(self, call: Call) -> Answer:
        """Begin."""
        self._store.bucket_path(call.bucket)
        self._store.place(call.bucket, call.key)
        headers = stored_headers(call.request.headers)
        storage_class = storage_class_of(call.request.headers)
        encode = key_encoder(call.request.query.get("encoding-type") == "url")

        def handle(_: bytes) -> Response:
            upload_id = os.urandom(16).hex().upper()
            os.mkdir(self._directory(upload_id))
            self._store.metadata.save_upload(
                UploadRow(upload_id, call.bucket, call.key, headers, storage_class, self._store.now_ns())
            )
            return xml(
                f"<InitiateMultipartUploadResult><Bucket>{call.bucket}</Bucket><Key>{encode(call.key)}</Key>"
                f"<UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
            )

        return DocumentSink(handle)

    def _part_number(self, call: Call) -> int:
        text = call.request.query.get("partNumber", "")
        number = decimal(text, 1, PARTS_MAX)
        if number is None:
            raise invalid_argument("Part number must be an integer between 1 and 10000, inclusive.", "partNumber", text)
        return number

    def upload_part(self, call: Call) -> Answer:
        """One part; a part of the same number is replaced."""
        number = self._part_number(call)
        upload = self._upload(call)
        if call.request.body_bytes > PUT_BYTES_MAX:
            raise Refused(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed part size.")
        return PartSink(self, upload.id, number, call)

    def upload_part_copy(self, call: Call) -> Answer:
        """A part taken from an object."""
        number = self._part_number(call)
        upload = self._upload(call)
        headers = call.request.headers
        bucket, key = copy_source(headers["x-oss-copy-source"])
        body, info = self._open_source(bucket, key)
        try:
            if check(headers, info.etag, info.mtime_ns, "x-oss-copy-source-"):
                body.close()
                return Response(304)
            asked = byte_range(headers | {"x-oss-range-behavior": "standard"}, info.size, "x-oss-copy-source-range")
        except BaseException:
            body.close()
            raise
        offset, size = asked if asked is not None else (0, info.size)

        def work() -> Response:
            writing = self._store.begin()
            try:
                copy_into(writing, body, size, offset)
                etag = self.save_part(upload.id, number, writing)
            finally:
                writing.abort()
                body.close()
            return xml(
                f"<CopyPartResult><LastModified>{iso_time(self._store.now_ns() // 10**9)}</LastModified>"
                f'<ETag>"{etag}"</ETag></CopyPartResult>',
                fields(("ETag", f'"{etag}"')),
            )

        return Later(work)

    def _open_source(self, bucket: str, key: bytes) -> tuple[FileBody, ObjectInfo]:
        if bucket in self._synthetic.buckets:
            return self._synthetic.open(bucket, key)
        fd, info = self._store.open(bucket, key)
        return FileBody(fd, 0, info.size), info

    def begin_part(self) -> Writing:
        """Start a part's body."""
        return self._store.begin()

    def save_part(self, upload_id: str, number: int, writing: Writing) -> str:
        """Make a finished body the part; returns its ETag.  Raises Refused when the upload has gone meanwhile."""
        file = f"{number}-{os.urandom(8).hex()}"
        try:
            os.rename(writing.path, self._directory(upload_id) + b"/" + file.encode())
        except FileNotFoundError:
            raise no_such_upload(upload_id) from None
        os.close(writing.fd)
        writing.fd = -1
        etag = writing.md5_digest.hex().upper()
        row = PartRow(number, file, writing.size, etag, writing.crc64, self._store.now_ns())
        old = [part for part in self._store.metadata.find_parts(upload_id) if part.number == number]
        self._store.metadata.save_part(upload_id, row)
        for part in old:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._directory(upload_id) + b"/" + part.file.encode())
        return etag

    def abort(self, call: Call) -> Answer:
        """Drop an upload and its parts."""
        upload = self._upload(call)
        self._drop(upload.id)
        return Response(204)

    def _drop(self, upload_id: str) -> bool:
        dropped = self._store.metadata.drop_upload(upload_id)
        if dropped:
            shutil.rmtree(self._directory(upload_id), ignore_errors=True)
        return dropped

    def complete(self, call: Call) -> Answer:
        """Join the parts named in the body, or all with ``x-oss-complete-all: yes``."""
        upload = self._upload(call)
        encode = key_encoder(call.request.query.get("encoding-type") == "url")
        everything = call.request.headers.get("x-oss-complete-all", "").lower() == "yes"
        overwrite = call.request.headers.get("x-oss-forbid-overwrite") != "true"

        def handle(document: bytes) -> Later:
            parts = self._chosen(upload.id, None if everything else document)

            def work() -> Response:
                info = self._join(upload, parts, overwrite)
                return xml(
                    f"<CompleteMultipartUploadResult><Location>/{call.bucket}/{encode(call.key)}</Location>"
                    f'<Bucket>{call.bucket}</Bucket><Key>{encode(call.key)}</Key><ETag>"{info.etag}"</ETag>'
                    "</CompleteMultipartUploadResult>",
                    fields(("ETag", f'"{info.etag}"'), ("x-oss-hash-crc64ecma", str(info.crc64))),
                )

            return Later(work)

        return DocumentSink(handle)

    def _chosen(self, upload_id: str, document: bytes | None) -> list[PartRow]:
        known = {part.number: part for part in self._store.metadata.find_parts(upload_id)}
        if document is None:
            chosen = list(known.values())
        else:
            chosen = []
            for item in parse_xml(document).findall("Part"):
                text, etag = item.findtext("PartNumber") or "", (item.findtext("ETag") or "").strip().strip('"')
                part = known.get(decimal(text, 1, PARTS_MAX) or 0)
                if part is None or part.etag != etag.upper():
                    raise Refused(
                        400,
                        "InvalidPart",
                        "One or more of the specified parts could not be found or the specified entity tag might not "
                        "have matched the part's entity tag.",
                        details=(("PartNumber", text),),
                    )
                chosen.append(part)
        if not chosen:
            raise malformed_xml()
        numbers = [part.number for part in chosen]
        if numbers != sorted(set(numbers)):
            raise Refused(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        for part in chosen[:-1]:
            if part.size < PART_BYTES_MIN:
                raise Refused(
                    400,
                    "EntityTooSmall",
                    "Your proposed upload smaller than the minimum allowed size.",
                    details=(("PartNumber", str(part.number)), ("ProposedSize", str(part.size))),
                )
        return chosen

    def _join(self, upload: UploadRow, parts: list[PartRow], overwrite: bool) -> ObjectInfo:
        writing = self._store.begin()
        try:
            crc = 0
            digests = md5(usedforsecurity=False)
            for part in parts:
                try:
                    _append(writing.fd, self._directory(upload.id) + b"/" + part.file.encode(), part.size)
                except FileNotFoundError:
                    raise no_such_upload(upload.id) from None
                crc = combine(crc, part.crc64, part.size)
                digests.update(bytes.fromhex(part.etag))
            info = self._store.commit(
                upload.bucket,
                upload.key,
                writing,
                etag=f"{digests.hexdigest().upper()}-{len(parts)}",
                crc=crc,
                kind="Multipart",
                storage_class=upload.storage_class,
                headers=upload.headers,
                overwrite=overwrite,
            )
        finally:
            writing.abort()
        self._drop(upload.id)
        return info

    def list_parts(self, call: Call) -> Answer:
        """An upload's parts, by pages."""
        upload = self._upload(call)
        query = call.request.query
        limit = number_parameter(query, "max-parts", 1000, PAGE_MAX)
        marker = number_parameter(query, "part-number-marker", 0, PARTS_MAX)
        encoded = query.get("encoding-type") == "url"
        parts = [part for part in self._store.metadata.find_parts(upload.id) if part.number > marker]
        shown = parts[:limit]
        rows = "".join(
            f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{iso_time(part.mtime_ns // 10**9)}"
            f'</LastModified><ETag>"{part.etag}"</ETag><Size>{part.size}</Size><HashCrc64ecma>{part.crc64}'
            "</HashCrc64ecma></Part>"
            for part in shown
        )
        kind = "<EncodingType>url</EncodingType>" if encoded else ""
        return xml(
            f"<ListPartsResult><Bucket>{call.bucket}</Bucket>{kind}<Key>{key_encoder(encoded)(call.key)}</Key>"
            f"<UploadId>{upload.id}</UploadId><StorageClass>{upload.storage_class}</StorageClass>"
            f"<PartNumberMarker>{marker}</PartNumberMarker>"
            f"<NextPartNumberMarker>{shown[-1].number if shown else 0}</NextPartNumberMarker>"
            f"<MaxParts>{limit}</MaxParts><IsTruncated>{'true' if len(parts) > len(shown) else 'false'}</IsTruncated>"
            f"{rows}</ListPartsResult>"
        )

    def list_uploads(self, call: Call) -> Answer:
        """A bucket's uploads, by pages."""
        query = call.request.query
        if call.bucket not in self._synthetic.buckets:
            self._store.bucket_path(call.bucket)
        limit = number_parameter(query, "max-uploads", 1000, PAGE_MAX)
        encoded = query.get("encoding-type") == "url"
        encode = key_encoder(encoded)
        prefix = query.get("prefix", "").encode("utf-8", "surrogateescape")
        key_marker, id_marker = (
            query.get("key-marker", "").encode("utf-8", "surrogateescape"),
            query.get("upload-id-marker", ""),
        )
        uploads = [
            upload
            for upload in self._store.metadata.find_uploads(call.bucket)
            if upload.key.startswith(prefix)
            and (upload.key > key_marker or (upload.key == key_marker and bool(id_marker) and upload.id > id_marker))
        ]
        shown = uploads[:limit]
        rows = "".join(
            f"<Upload><Key>{encode(upload.key)}</Key><UploadId>{upload.id}</UploadId>"
            f"<StorageClass>{upload.storage_class}</StorageClass>"
            f"<Initiated>{iso_time(upload.started_ns // 10**9)}</Initiated></Upload>"
            for upload in shown
        )
        last = shown[-1] if shown else None
        kind = "<EncodingType>url</EncodingType>" if encoded else ""
        return xml(
            f"<ListMultipartUploadsResult><Bucket>{call.bucket}</Bucket>{kind}"
            f"<KeyMarker>{encode(key_marker)}</KeyMarker>"
            f"<UploadIdMarker>{xml_text(id_marker)}</UploadIdMarker>"
            f"<NextKeyMarker>{encode(last.key) if last else ''}</NextKeyMarker>"
            f"<NextUploadIdMarker>{last.id if last else ''}</NextUploadIdMarker><Prefix>{encode(prefix)}</Prefix>"
            f"<MaxUploads>{limit}</MaxUploads><IsTruncated>{'true' if len(uploads) > len(shown) else 'false'}"
            f"</IsTruncated>{rows}</ListMultipartUploadsResult>"
        )


class PartSink:
    """Streams a part's body to disk."""

    def __init__(self, operations: MultipartOperations, upload_id: str, number: int, call: Call) -> None:
        self._operations = operations
        self._upload_id = upload_id
        self._number = number
        self._digests = expected_digests(call.request.headers)
        self._writing = operations.begin_part()

    def write(self, data: memoryview) -> None:
        """Append; raises Refused beyond 5 GiB."""
        if self._writing.size + len(data) > PUT_BYTES_MAX:
            raise Refused(
                400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed part size.", close=True
            )
        self._writing.write(data)

    def finish(self) -> Response:
        """Check the digests and keep the part."""
        try:
            check_digests(self._writing, self._digests)
            etag = self._operations.save_part(self._upload_id, self._number, self._writing)
        finally:
            self._writing.abort()
        return Response(200, written_fields(self._writing, etag))

    def abort(self) -> None:
        """Leave nothing."""
        self._writing.abort()


def _append(fd: int, path: bytes, size: int) -> None:
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        copied = 0
        while copied < size:
            try:
                count = os.copy_file_range(source, fd, size - copied)
            except OSError as error:
                # Some file systems cannot copy in the kernel.
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                count = os.sendfile(fd, source, None, size - copied)
            if count == 0:
                raise no_such_key(b"")
            copied += count
    finally:
        os.close(source)
