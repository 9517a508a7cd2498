"""A receiver of webhooks as an operator would write it: checks the signature with Python's own HMAC, refuses what
is older than five minutes, and drops what it has had. Arguments: the secret, and the time that it is.
"""

import base64
import hashlib
import hmac
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

secret, now = sys.argv[1].encode(), int(sys.argv[2])
seen = set()


class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name, timestamp = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        signed = hmac.new(secret, f"{name}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        wanted = "v1," + base64.b64encode(signed).decode()
        if not hmac.compare_digest(wanted, self.headers.get("webhook-signature", "")):
            return self.answer(401, "the signature is wrong")
        if abs(now - int(timestamp)) > 300:
            return self.answer(400, "too old")
        if name in seen:
            return self.answer(200, "had it already")
        seen.add(name)
        print(json.dumps({"id": name, "body": json.loads(body)}), flush=True)
        self.answer(200, "thanks")

    def answer(self, status, said):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Hook)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
