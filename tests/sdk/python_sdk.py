"""Uploads with the official SDK in every way that has callbacks, and checks what the uploader gets back.

python_sdk.py OSS_URL CALLBACK_URL
"""

import base64
import json
import os
import sys
import tempfile

import oss2
from oss2.models import PartInfo

oss_url, callback_url = sys.argv[1:]
bucket = oss2.Bucket(oss2.Auth("test-key", "test-secret"), oss_url, "examplebucket", is_path_style=True)


def encode(value):
    return base64.b64encode(json.dumps(value).encode()).decode()


def headers(body_type, body, url=callback_url):
    return {
        "x-oss-callback": encode({"callbackUrl": url, "callbackBody": body, "callbackBodyType": body_type}),
        "x-oss-callback-var": encode({"x:user": "42"}),
    }


FORM = ("application/x-www-form-urlencoded",
        "bucket=${bucket}&object=${object}&size=${size}&etag=${etag}&mimeType=${mimeType}&reqId=${reqId}"
        "&operation=${operation}&crc64=${crc64}&x:user=${x:user}&height=${imageInfo.height}")
JSON = ("application/json",
        '{"bucket":${bucket},"object":${object},"size":${size},"etag":${etag},"mimeType":${mimeType},"reqId":${reqId},'
        '"operation":${operation},"crc64":${crc64},"x:user":${x:user},"height":${imageInfo.height}}')


def check(answer, key, size):
    assert answer.status == 200, (answer.status, answer.resp.read())
    reply = json.loads(answer.resp.read())
    assert reply["Status"] == "OK" and reply["object"] == key and reply["size"] == size, reply
    assert len(reply["id"]) == 32, reply
    print(key, "->", reply)
    return reply


for template in (FORM, JSON):
    for key in ("plain.txt", "a dir/ü+& \"quoted\" %41.txt"):
        content = os.urandom(5000)
        name = f"{template[0][-4:]}/{key}"
        check(bucket.put_object(name, content, headers=headers(*template)), name, len(content))
        assert bucket.get_object(name).read() == content
        assert bucket.head_object(name).content_length == len(content)

# The same by a multipart upload; its answer is the application server's, too.
name, parts = "multi/part.bin", []
content = os.urandom(300 * 1024)
upload = bucket.init_multipart_upload(name)
for number in range(3):
    piece = content[number * 100 * 1024:(number + 1) * 100 * 1024]
    part = bucket.upload_part(name, upload.upload_id, number + 1, piece)
    parts.append(PartInfo(number + 1, part.etag))
check(bucket.complete_multipart_upload(name, upload.upload_id, parts, headers=headers(*JSON)), name, len(content))
assert bucket.get_object(name).read() == content

# The convenience that most programs use. This SDK leaves the callback out of its completing request; the upload is fine.
with tempfile.NamedTemporaryFile() as file:
    file.write(content)
    file.flush()
    answer = oss2.resumable_upload(bucket, "multi/resumable.bin", file.name, multipart_threshold=100 * 1024,
                                   part_size=100 * 1024)
    assert answer.status == 200
    assert bucket.get_object("multi/resumable.bin").read() == content

listed = {entry.key for entry in oss2.ObjectIteratorV2(bucket, prefix="multi/")}
assert listed == {"multi/part.bin", "multi/resumable.bin"}, listed

# A callback that fails: 203, and the object is there all the same.
answer = bucket.put_object("refused.txt", b"x", headers=headers("application/x-www-form-urlencoded", "size=${size}"))
reply = answer.resp.read().decode()
assert answer.status == 203 and "CallbackFailed" in reply and "0007-00000203" in reply, (answer.status, reply)
assert bucket.object_exists("refused.txt")

# A callback parameter that is wrong: 400, and nothing is stored.
try:
    bucket.put_object("never.txt", b"x", headers={"x-oss-callback": "not base64!"})
    raise AssertionError("a broken callback parameter was taken")
except oss2.exceptions.OssError as error:
    assert error.status == 400 and error.code == "InvalidArgument", error
assert not bucket.object_exists("never.txt")

bucket.delete_object("refused.txt")
assert not bucket.object_exists("refused.txt")
print("all is well")
