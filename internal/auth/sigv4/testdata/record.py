"""Makes botocore.json: requests as the library of the AWS CLI signs them. Run it beside this file."""
import datetime
import json

import botocore.auth as auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NOW = datetime.datetime(2026, 11, 23, 12, 0, 0, tzinfo=datetime.timezone.utc)
auth.get_current_datetime = lambda *_, **__: NOW

ID, SECRET = "AKIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
REQUESTS = [
    ("GET", "/things/lamp/shadow", b"", {}),
    ("POST", "/things/lamp%3A1/shadow?name=cfg%3A1", b'{"state":{}}', {}),
    ("GET", "/things/lamp/shadow?name=a%20b&b=2&a=1&a=0", b"", {}),
    ("POST", "/topics/home%2F%C3%A4%20b?qos=1&retain=true", b"\x00\xff hello",
     {"Content-Type": "application/octet-stream", "x-amz-mqtt5-user-properties": "W10=  "}),
    ("GET", "/retainedMessage/a%2Bb~c%2A", b"", {}),
    ("GET", "/api/things/shadow/ListNamedShadowsForThing/lamp?nextToken=abc%2F%3D%3D&pageSize=2", b"", {}),
    ("DELETE", "/connections/c%26d%0A?cleanSession=TRUE&preventWillMessage=FALSE", b"", {}),
    ("GET", "/things/lamp/shadow?name", b"", {}),
    ("GET", "/", b"", {"X-Custom": "a   b  "}),
]


def sign(method, path, body, headers, service, token, presigned):
    request = AWSRequest(method=method, url="http://127.0.0.1:8080" + path, data=body, headers=dict(headers))
    kind, more = (auth.SigV4QueryAuth, {"expires": 60}) if presigned else (auth.SigV4Auth, {})
    kind(Credentials(ID, SECRET, token), service, "eu-central-1", **more).add_auth(request)
    done = request.prepare()
    text = {k: v.decode() if isinstance(v, bytes) else str(v) for k, v in done.headers.items()}
    return {"method": method, "url": done.url, "headers": text, "body": body.hex()}


recordings = [
    sign(*request, service, token, presigned)
    for service in ("iotdata", "iotdevicegateway")
    for request in REQUESTS
    for token, presigned in ((None, False), ("SESSION+TOKEN/=", False), (None, True))
    if not (presigned and request[2])  # botocore would move the body into the query
]
with open("botocore.json", "w") as out:
    json.dump(recordings, out, indent=1)
