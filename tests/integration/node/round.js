// One round of ali-oss against an emulator; prints "ok" or throws.
// Arguments: endpoint, "v1" or "v4"; the keys come from the environment.
"use strict";

const assert = require("node:assert");
const crypto = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");
const { Readable } = require("node:stream");
const OSS = require("ali-oss");

function fetchFrom(port, url) {
  return new Promise((resolve, reject) => {
    const request = { host: "127.0.0.1", port, path: url.pathname + url.search, headers: { Host: url.host } };
    http
      .get(request, (answer) => {
        const pieces = [];
        answer.on("data", (piece) => pieces.push(piece));
        answer.on("end", () => resolve({ status: answer.statusCode, body: Buffer.concat(pieces) }));
      })
      .on("error", reject);
  });
}

async function main(endpoint, version) {
  const options = {
    endpoint,
    region: "oss-cn-hangzhou",
    accessKeyId: process.env.ACCESS_KEY_ID,
    accessKeySecret: process.env.ACCESS_KEY_SECRET,
    authorizationV4: version === "v4",
    bucket: "node-" + version,
  };
  const client = new OSS(options);
  await client.putBucket("node-" + version);
  const data = crypto.randomBytes(300000);

  const put = await client.put("dir/a b+ü.bin", data, { meta: { colour: "red" } });
  assert.strictEqual(put.res.status, 200);
  const got = await client.get("dir/a b+ü.bin");
  assert.ok(data.equals(got.content));
  const head = await client.head("dir/a b+ü.bin");
  assert.strictEqual(head.meta.colour, "red");
  assert.strictEqual(head.res.headers["content-length"], "300000");

  const part = await client.get("dir/a b+ü.bin", { headers: { Range: "bytes=100-199" } });
  assert.strictEqual(part.res.status, 206);
  assert.ok(data.subarray(100, 200).equals(part.content));

  await client.putStream("stream", Readable.from([data.subarray(0, 1000), data.subarray(1000)]));
  assert.ok(data.equals((await client.get("stream")).content));

  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "ali-oss-")), "big");
  const big = crypto.randomBytes(2500000);
  fs.writeFileSync(file, big);
  await client.multipartUpload("big", file, { partSize: 1024 * 1024, parallel: 2 });
  fs.rmSync(path.dirname(file), { recursive: true });
  assert.ok(big.equals((await client.get("big")).content));

  await client.copy("copy", "dir/a b+ü.bin");
  assert.ok(data.equals((await client.get("copy")).content));

  const listed = await client.list({ "max-keys": 100 });
  assert.deepStrictEqual(listed.objects.map((item) => item.name), ["big", "copy", "dir/a b+ü.bin", "stream"]);
  const page = await client.listV2({ delimiter: "/", "max-keys": 2 });
  assert.strictEqual(page.isTruncated, true);
  const rest = await client.listV2({ delimiter: "/", "continuation-token": page.nextContinuationToken });
  assert.deepStrictEqual(rest.prefixes, ["dir/"]);
  assert.deepStrictEqual(rest.objects.map((item) => item.name), ["stream"]);

  // Presigned URLs are made for host names only: virtual-host style, sent to the address.
  const port = new URL(endpoint).port;
  const named = new OSS({ ...options, endpoint: "http://localhost:" + port });
  const url = new URL(
    version === "v4"
      ? await named.signatureUrlV4("GET", 60, {}, "dir/a b+ü.bin")
      : named.signatureUrl("dir/a b+ü.bin", { expires: 60 }),
  );
  assert.strictEqual(url.hostname, "node-" + version + ".localhost");
  const answer = await fetchFrom(port, url);
  assert.strictEqual(answer.status, 200);
  assert.ok(data.equals(answer.body));

  await client.putSymlink("link", "copy");
  assert.strictEqual((await client.getSymlink("link")).targetName, "copy");

  await assert.rejects(client.get("nothing"), { status: 404, code: "NoSuchKey" });
  await client.deleteMulti(["big", "copy", "stream"]);
  await client.delete("link");
  await client.delete("dir/a b+ü.bin");
  assert.deepStrictEqual((await client.list({})).objects ?? [], []);
  await client.deleteBucket("node-" + version);
  console.log("ok");
}

main(process.argv[2], process.argv[3]).then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
