#!/usr/bin/env python3
"""What strangers and bad neighbours cost a daemon, and whether the others notice:

    benches/abuse.py BINARY [SCALE]

A hub with listeners for TCP, TLS and WebSocket, and a neighbour that pings it and runs a stream through it all the time. Then
in turn: handshakes that are begun and not ended, connections that are opened and dropped, a neighbour that never reads beside
one that never stops sending. For each: file descriptors and resident KiB of the hub before, at worst and afterwards, and how
the neighbour fared. SCALE multiplies the numbers. Any binary with the classic command line will do. Needs openssl.
"""
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time

from live import Mesh, resident_kib

# HighwayHash of the two names, so that none has to be computed here.
MUTE, LOUD = ("foo", "ef7a78b67f92bdf7"), ("node-1", "0c336e791d0a95d7")


class Hub(Mesh):
    """A hub with a listener of each kind, and its neighbour `far`."""

    def __enter__(self):
        certificate, key = f"{self.directory}/hub.crt", f"{self.directory}/hub.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=hub",
                        "-addext", "subjectAltName=otherName:1.3.6.1.4.1.2312.19.1;UTF8:hub", "-keyout", key, "-out", certificate],
                       check=True, capture_output=True)
        self.plain, self.tls, self.web, self.service, self.target = range(self.port, self.port + 5)
        listen = ["bindaddr=127.0.0.1"]
        self.run("hub", ["--tls-server", "name=s", f"cert={certificate}", f"key={key}",
                         "--tcp-listener", *listen, f"port={self.plain}", "--tcp-listener", *listen, f"port={self.tls}", "tls=s",
                         "--ws-listener", *listen, f"port={self.web}", "path=/",
                         "--tcp-client", "service=echo", f"address=127.0.0.1:{self.target}"])
        self.run("far", ["--tcp-peer", f"address=127.0.0.1:{self.plain}",
                         "--tcp-server", *listen, f"port={self.service}", "remotenode=hub", "remoteservice=echo"])
        self.wait_for_routes()
        return self

    def run(self, name, args):
        args = ["--node", f"id={name}", f"datadir={self.directory}/data", "--log-level", "level=warning",
                "--control-service", f"filename={self.directory}/{name}.sock", *args]
        with open(f"{self.directory}/{name}.log", "a") as log:
            self.nodes[name] = subprocess.Popen([self.binary, *args], stdout=log, stderr=log)

    def usage(self):
        pid = self.nodes["hub"].pid
        return len(os.listdir(f"/proc/{pid}/fd")), resident_kib(pid)

    def log_lines(self):
        with open(f"{self.directory}/hub.log", "rb") as log:
            return log.read().count(b"\n")


class Others:
    """A stream and pings of the neighbour, until the end of the block."""

    def __init__(self, hub):
        self.hub, self.stop, self.bytes, self.pings, self.problem = hub, False, 0, [], None
        self.listener = socket.create_server(("127.0.0.1", hub.target))

    def __enter__(self):
        threading.Thread(target=self.echo, daemon=True).start()
        self.thread = threading.Thread(target=self.go_on)
        self.thread.start()
        return self

    def echo(self):
        connection, _ = self.listener.accept()
        while data := connection.recv(1 << 16):
            connection.sendall(data)
        connection.close()

    def go_on(self):
        try:
            stream = socket.create_connection(("127.0.0.1", self.hub.service))
            stream.settimeout(60)
            block = os.urandom(64 << 10)
            while not self.stop or not self.pings:
                stream.sendall(block)
                back = b""
                while len(back) < len(block):
                    back += stream.recv(len(block) - len(back)) or sys.exit("the stream has ended")
                assert back == block, "other bytes than were sent"
                self.bytes += len(block)
                start = time.monotonic()
                answer = self.hub.command("far", "ping hub")
                assert answer["Success"], answer
                self.pings.append(time.monotonic() - start)
                time.sleep(0.01)
            stream.close()
        except BaseException as problem:
            self.problem = problem

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()
        self.listener.close()

    def report(self):
        if self.problem:
            return f"HARMED: {self.problem}"
        return f"{self.bytes >> 20} MiB, {len(self.pings)} pings, worst {max(self.pings) * 1e3:.0f} ms"


class Worst:
    """Samples the hub until the end of the block."""

    def __init__(self, hub):
        self.hub, self.stop, self.files, self.kib = hub, False, 0, 0

    def __enter__(self):
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()
        return self

    def sample(self):
        while not self.stop:
            files, kib = self.hub.usage()
            self.files, self.kib = max(self.files, files), max(self.kib, kib)
            time.sleep(0.05)

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()


def connect(port, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))


def slow_handshakes(hub, scale):
    held = []
    for port, beginning in ((hub.plain, b"\xc8\0\1{"), (hub.tls, b"\x16\3\1\2\0\1"), (hub.web, b"GET / HTTP/1.1\r\nHost: hub\r\nX")):
        for _ in range(600 * scale):
            connection = connect(port)
            try:
                connection.sendall(beginning)
            except OSError:
                pass
            held.append(connection)
    time.sleep(17)


def floods(hub, scale):
    for number in range(6000 * scale):
        source = "127.0.0.1" if number % 2 else f"127.1.{number >> 8 & 255}.{number & 255}"
        connection = connect((hub.plain, hub.tls, hub.web)[number % 3], source)
        if number % 5 == 0:
            try:
                connection.sendall(b"\x16\3\1nonsense\r\n\r\n")
            except OSError:
                pass
        connection.close()


def frame(message):
    return len(message).to_bytes(2, "little") + message


def hello(name, sequence, connections):
    update = {"NodeID": name, "UpdateID": f"u{sequence % 10_000_000:07}", "UpdateEpoch": 28521267211259375, "UpdateSequence": sequence,
              "Connections": connections, "ForwardingNode": name, "SuspectedDuplicate": 0}
    return frame(b"\1" + json.dumps(update).encode())


def neighbour(hub, name):
    connection = connect(hub.plain)
    connection.sendall(hello(name, 1, {}))
    time.sleep(0.5)
    connection.sendall(hello(name, 2, {"hub": 1.0}))
    for _ in range(600):
        known = {link["NodeID"] for link in hub.command("hub", '{"command":"status"}')["Connections"]}
        if name in known:
            return connection
        time.sleep(0.05)
    sys.exit(f"{name} is no neighbour")


def bad_neighbours(hub, scale):
    mute, loud = neighbour(hub, MUTE[0]), neighbour(hub, LOUD[0])
    header = bytes([0, 30, 0, 0]) + bytes.fromhex(LOUD[1]) + bytes.fromhex(MUTE[1]) + b"a".ljust(8, b"\0") + b"b".ljust(8, b"\0")
    data = frame(header + os.urandom(32 << 10))
    for number in range(8000 * scale):
        loud.sendall(data)
        if number % 4 == 0:
            loud.sendall(hello(LOUD[0], 3 + number, {"hub": 1.0}))
    mute.close()
    loud.close()


def main():
    match sys.argv[1:]:
        case [binary]:
            scale = 1
        case [binary, text]:
            scale = int(text)
        case _:
            sys.exit(__doc__)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("| what happens | file descriptors before, at worst, after | resident KiB before, at worst, after | lines in the log | the others |")
    print("|---|---|---|---|---|")
    for what, attack in (("handshakes begun and not ended", slow_handshakes), ("connections opened and dropped", floods),
                         ("one neighbour never reads, one never stops", bad_neighbours)):
        with tempfile.TemporaryDirectory() as directory, Hub(os.path.abspath(binary), directory) as hub:
            before, lines = hub.usage(), hub.log_lines()
            with Others(hub) as others:
                with Worst(hub) as worst:
                    attack(hub, scale)
                time.sleep(2)
            after = hub.usage()
            print(f"| {what} | {before[0]}, {worst.files}, {after[0]} | {before[1]:,}, {worst.kib:,}, {after[1]:,} | "
                  f"{hub.log_lines() - lines} | {others.report()} |", flush=True)


if __name__ == "__main__":
    main()
