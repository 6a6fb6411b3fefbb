"""Operations on the service and on buckets: list, create, describe, delete, and deleting many objects."""

from __future__ import annotations

import base64
import binascii
from xml.etree import ElementTree

from jindopy.emulator.answers import Answer, Call, DocumentSink, Response, fields, xml
from jindopy.emulator.errors import Refused, invalid_argument, number_parameter, xml_text
from jindopy.emulator.listing import (
    OWNER,
    PAGE_KEYS_MAX,
    Directories,
    DiskDirectories,
    Page,
    Variant,
    iso_time,
    key_encoder,
    page,
)
from jindopy.emulator.metadata import BucketRow
from jindopy.emulator.objects import STORAGE_CLASSES, Store
from jindopy.emulator.synthetic import MTIME_NS, Synthetic

ACLS = frozenset({"private", "public-read", "public-read-write"})
DELETE_KEYS_MAX = 1000


class BucketOperations:
    """The operations over one store."""

    def __init__(self, store: Store, synthetic: Synthetic, directories: DiskDirectories, region: str) -> None:
        self._store = store
        self._synthetic = synthetic
        self._directories = directories
        self._region = region or "cn-hangzhou"

    def _source(self, bucket: str) -> Directories:
        if bucket in self._synthetic.buckets:
            return self._synthetic
        self._store.bucket_path(bucket)
        return self._directories

    def _row(self, bucket: str) -> BucketRow:
        if bucket in self._synthetic.buckets:
            return BucketRow(MTIME_NS, "Standard", "private")
        return self._store.bucket_row(bucket)

    # Service

    def list_buckets(self, call: Call) -> Answer:
        """All buckets, by pages."""
        query = call.request.query
        prefix, marker = query.get("prefix", ""), query.get("marker", "")
        limit = number_parameter(query, "max-keys", 100, PAGE_KEYS_MAX)
        buckets = self._store.buckets() + [(name, self._row(name)) for name in self._synthetic.buckets]
        found = sorted(item for item in buckets if item[0].startswith(prefix) and item[0] > marker)
        shown = found[:limit]
        rows = "".join(
            f"<Bucket><CreationDate>{iso_time(row.created_ns // 10**9)}</CreationDate>"
            f"<ExtranetEndpoint>oss-{self._region}.aliyuncs.com</ExtranetEndpoint>"
            f"<IntranetEndpoint>oss-{self._region}-internal.aliyuncs.com</IntranetEndpoint>"
            f"<Location>oss-{self._region}</Location><Name>{name}</Name><Region>{self._region}</Region>"
            f"<StorageClass>{row.storage_class}</StorageClass></Bucket>"
            for name, row in shown
        )
        more = ""
        if len(found) > len(shown):
            more = f"<NextMarker>{shown[-1][0] if shown else ''}</NextMarker>"
        return xml(
            f"<ListAllMyBucketsResult>{OWNER}<Prefix>{xml_text(prefix)}</Prefix><Marker>{xml_text(marker)}</Marker>"
            f"<MaxKeys>{limit}</MaxKeys><IsTruncated>{_flag(bool(more))}</IsTruncated>{more}"
            f"<Buckets>{rows}</Buckets></ListAllMyBucketsResult>"
        )

    # Buckets

    def put_bucket(self, call: Call) -> Answer:
        """Create; the body may name a storage class."""
        headers = call.request.headers
        acl = headers.get("x-oss-acl", "private")
        if acl not in ACLS:
            raise invalid_argument("no such bucket access control exists", "x-oss-acl", acl)
        if call.bucket in self._synthetic.buckets:
            raise Refused(409, "BucketAlreadyExists", "The requested bucket name is not available.")

        def handle(document: bytes) -> Response:
            storage_class = "Standard"
            if document:
                storage_class = parse_xml(document).findtext("StorageClass") or storage_class
            if storage_class not in STORAGE_CLASSES:
                raise invalid_argument("The storage class is not known.", "StorageClass", storage_class)
            self._store.create_bucket(call.bucket, storage_class, acl)
            return Response(200, fields(("Location", f"/{call.bucket}")))

        return DocumentSink(handle)

    def put_bucket_acl(self, call: Call) -> Answer:
        """Change who may; remembered and shown, not enforced."""
        row = self._store.bucket_row(call.bucket)
        acl = call.request.headers.get("x-oss-acl", "")
        if acl not in ACLS:
            raise invalid_argument("no such bucket access control exists", "x-oss-acl", acl)

        def handle(_: bytes) -> Response:
            self._store.create_bucket(call.bucket, row.storage_class, acl)
            return Response(200)

        return DocumentSink(handle)

    def delete_bucket(self, call: Call) -> Answer:
        """Delete an empty bucket."""
        if call.bucket in self._synthetic.buckets:
            raise Refused(403, "AccessDenied", "The bucket is made by formula and cannot be deleted.")
        self._store.delete_bucket(call.bucket)
        return Response(204)

    def get_bucket_info(self, call: Call) -> Answer:
        """What there is to say of a bucket."""
        row = self._row(call.bucket)
        return xml(
            f"<BucketInfo><Bucket><CreationDate>{iso_time(row.created_ns // 10**9)}</CreationDate>"
            f"<ExtranetEndpoint>oss-{self._region}.aliyuncs.com</ExtranetEndpoint>"
            f"<IntranetEndpoint>oss-{self._region}-internal.aliyuncs.com</IntranetEndpoint>"
            f"<Location>oss-{self._region}</Location><Name>{call.bucket}</Name>"
            f"<StorageClass>{row.storage_class}</StorageClass><DataRedundancyType>LRS</DataRedundancyType>"
            f"<Versioning></Versioning>{OWNER}<AccessControlList><Grant>{row.acl}</Grant></AccessControlList>"
            "<BucketPolicy><LogBucket></LogBucket><LogPrefix></LogPrefix></BucketPolicy></Bucket></BucketInfo>"
        )

    def get_bucket_location(self, call: Call) -> Answer:
        """The region."""
        self._row(call.bucket)
        return xml(f"<LocationConstraint>oss-{self._region}</LocationConstraint>")

    def get_bucket_acl(self, call: Call) -> Answer:
        """Who may."""
        row = self._row(call.bucket)
        return xml(
            f"<AccessControlPolicy>{OWNER}<AccessControlList><Grant>{row.acl}</Grant></AccessControlList>"
            "</AccessControlPolicy>"
        )

    def get_bucket_stat(self, call: Call) -> Answer:
        """Bytes and objects; counted by a walk through the directories."""
        source = self._source(call.bucket)
        objects, size_bytes = 0, 0
        stack = [b""]
        while stack:
            directory = source.directory(call.bucket, stack.pop())
            if directory is not None:
                stack += [directory.key + directory.names[index] for index in directory.directories]
                objects += len(directory.names) - len(directory.directories)
                size_bytes += directory.size_bytes()
        uploads = len(self._store.metadata.find_uploads(call.bucket))
        return xml(
            f"<BucketStat><Storage>{size_bytes}</Storage><ObjectCount>{objects}</ObjectCount>"
            f"<MultipartUploadCount>{uploads}</MultipartUploadCount></BucketStat>"
        )

    # Listings

    def list_objects(self, call: Call) -> Answer:
        """The first version: marker and next marker."""
        query = call.request.query
        encoded = _encoding(query)
        marker = query.get("marker", "")
        limit = number_parameter(query, "max-keys", 100, PAGE_KEYS_MAX)
        found = self._page(call, _bytes(marker), limit, Variant(encoded, True))
        encode = key_encoder(encoded)
        more = f"<NextMarker>{encode(found.last)}</NextMarker>" if found.truncated else ""
        head = f"<Marker>{encode(_bytes(marker))}</Marker>{more}"
        return self._list_answer(call, found, limit, encoded, head)

    def list_objects_v2(self, call: Call) -> Answer:
        """The second version: start-after and continuation tokens."""
        query = call.request.query
        encoded = _encoding(query)
        limit = number_parameter(query, "max-keys", 100, PAGE_KEYS_MAX)
        token, start_after = query.get("continuation-token", ""), query.get("start-after", "")
        after = _bytes(start_after)
        if token:
            try:
                after = base64.b64decode(token, validate=True)
            except (binascii.Error, ValueError):
                after = b""
            if not after:
                raise invalid_argument("The continuation token is not correct.", "continuation-token", token)
        with_owner = query.get("fetch-owner") == "true"
        found = self._page(call, after, limit, Variant(encoded, with_owner))
        encode = key_encoder(encoded)
        head = f"<KeyCount>{len(found.rows) + len(found.prefixes)}</KeyCount>"
        if start_after:
            head += f"<StartAfter>{encode(_bytes(start_after))}</StartAfter>"
        if token:
            head += f"<ContinuationToken>{xml_text(token)}</ContinuationToken>"
        if found.truncated:
            following = base64.b64encode(found.last).decode()
            head += f"<NextContinuationToken>{following}</NextContinuationToken>"
        return self._list_answer(call, found, limit, encoded, head)

    def _page(self, call: Call, after: bytes, limit: int, variant: Variant) -> Page:
        query = call.request.query
        source = self._source(call.bucket)
        prefix, delimiter = _bytes(query.get("prefix", "")), _bytes(query.get("delimiter", ""))
        return page(source, call.bucket, prefix, delimiter, after, limit, variant)

    @staticmethod
    def _list_answer(call: Call, found: Page, limit: int, encoded: bool, head: str) -> Response:
        query = call.request.query
        encode = key_encoder(encoded)
        text = (
            f"<ListBucketResult><Name>{call.bucket}</Name><Prefix>{encode(_bytes(query.get('prefix', '')))}</Prefix>"
            f"<MaxKeys>{limit}</MaxKeys><Delimiter>{encode(_bytes(query.get('delimiter', '')))}</Delimiter>"
            f"<IsTruncated>{_flag(found.truncated)}</IsTruncated>{head}"
        )
        if encoded:
            text += "<EncodingType>url</EncodingType>"
        answer = xml(text)
        tail = "".join(
            f"<CommonPrefixes><Prefix>{encode(prefix)}</Prefix></CommonPrefixes>" for prefix in found.prefixes
        )
        answer.body = b"".join((answer.body, *found.rows, tail.encode(), b"</ListBucketResult>"))
        return answer

    # Deleting many

    def delete_multiple_objects(self, call: Call) -> Answer:
        """Delete up to 1,000 keys named in the body."""
        if call.bucket in self._synthetic.buckets:
            raise Refused(403, "AccessDenied", "The bucket's objects are made by formula and cannot be changed.")
        self._store.bucket_path(call.bucket)
        encoded = _encoding(call.request.query)

        def handle(document: bytes) -> Response:
            root = parse_xml(document)
            if root.tag != "Delete":
                raise malformed_xml()
            keys = [(item.findtext("Key") or "").encode() for item in root.findall("Object")]
            if not 0 < len(keys) <= DELETE_KEYS_MAX:
                raise malformed_xml()
            for key in keys:
                self._store.place(call.bucket, key)
            for key in keys:
                self._store.delete(call.bucket, key)
            if (root.findtext("Quiet") or "").lower() == "true":
                return Response(200)
            encode = key_encoder(encoded)
            rows = "".join(f"<Deleted><Key>{encode(key)}</Key></Deleted>" for key in keys)
            kind = "<EncodingType>url</EncodingType>" if encoded else ""
            return xml(f"<DeleteResult>{kind}{rows}</DeleteResult>")

        return DocumentSink(handle)


def parse_xml(document: bytes) -> ElementTree.Element:
    """A request's XML without namespaces; raises Refused.

    A document type is refused before the parser sees it, so entities can neither grow nor reach files.
    """
    if b"<!DOCTYPE" in document or b"<!ENTITY" in document:
        raise malformed_xml()
    try:
        root = ElementTree.fromstring(document)  # noqa: S314 (no document type, see above)
    except (ElementTree.ParseError, ValueError, LookupError):
        raise malformed_xml() from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def malformed_xml() -> Refused:
    """400: the body is not the document that is due."""
    return Refused(
        400,
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema.",
    )


def _encoding(query: dict[str, str]) -> bool:
    kind = query.get("encoding-type", "")
    if kind not in ("", "url"):
        raise invalid_argument("Invalid Encoding Method specified in Request.", "encoding-type", kind)
    return kind == "url"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _flag(value: bool) -> str:
    return "true" if value else "false"
