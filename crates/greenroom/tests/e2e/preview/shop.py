"""What the previews' tests look at: it shows what it was asked with, echoes, and sends more than anybody takes."""

import base64
import hashlib
import http.server
import socketserver
import struct
import threading

TOTAL = 128 * 1024 * 1024
CHUNK = bytes(range(256)) * 256
stalled = {}


class Shop(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0]
        answer = {"/seen": self.seen, "/big": self.big, "/stalled": self.stalled, "/socket": self.socket}
        answer.get(path, self.page)()

    def do_POST(self):
        digest, left = hashlib.sha256(), int(self.headers["content-length"])
        while left:
            part = self.rfile.read(min(left, 65536))
            digest.update(part)
            left -= len(part)
        self.text(digest.hexdigest())

    def page(self):
        self.text("apples, " + self.path, {
            "set-cookie": "basket=3; Path=/; Domain=localhost",
            "connection": "close, x-inside-only",
            "x-inside-only": "1",
            "keep-alive": "timeout=5",
            "proxy-authenticate": "Basic",
            "strict-transport-security": "max-age=1",
            "clear-site-data": '"cookies"',
        })

    def seen(self):
        self.text("".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items()))

    def text(self, text, headers=None):
        body = text.encode()
        self.send_response(200)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def big(self):
        self.send_response(200)
        self.send_header("content-length", str(TOTAL))
        self.end_headers()
        sent = 0
        self.connection.settimeout(0.5)
        while sent < TOTAL:
            try:
                sent += self.connection.send(CHUNK[sent % len(CHUNK):])
            except TimeoutError:
                stalled["at"] = sent
        stalled["done"] = sent

    def stalled(self):
        self.text(f"{stalled.get('at', '')} {stalled.get('done', '')}")

    def socket(self):
        """RFC 6455, as much of it as one short text message each way needs."""
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while True:
            kind, length = struct.unpack("!BB", self.rfile.read(2))
            mask, length = self.rfile.read(4), length & 127
            if kind & 15 != 1:
                return
            said = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(length)))
            answer = b"echo " + said
            self.wfile.write(struct.pack("!BB", 0x81, len(answer)) + answer)

    def log_message(self, *_):
        pass


class Flood(socketserver.StreamRequestHandler):
    """Headers without an end."""

    def handle(self):
        self.request.recv(65536)
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        try:
            for number in range(100_000):
                self.wfile.write(b"x-%d: %s\r\n" % (number, b"a" * 1000))
        except OSError:
            pass


class Threaded(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


flood = socketserver.ThreadingTCPServer(("127.0.0.1", 8001), Flood)
threading.Thread(target=flood.serve_forever, daemon=True).start()
Threaded(("127.0.0.1", 8000), Shop).serve_forever()
