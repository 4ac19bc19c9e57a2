#!/usr/bin/env python3
"""Measures meshes of real daemons on loopback. Any binary with the classic command line will do:

    benches/live.py chain BINARY [BINARY ...]     ping over three hops; remote `cat` of 1 KiB and 256 MiB of output over two
    benches/live.py scale BINARY [NODES [LINKS]]  all nodes started at once: time to all routes, idle CPU, memory

Several binaries are measured in turn in one run, for figures that can be compared on a machine shared with others.
"""
import hashlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

OUTPUT = 256 << 20
PRODUCER = """
import sys
block = bytes(range(251)) * 4178
left = %d
while left:
    left -= sys.stdout.buffer.write(block[:left])
""" % OUTPUT


class Mesh:
    """Daemons with all their files in one directory, killed at the end."""

    def __init__(self, binary, directory):
        self.binary, self.directory, self.nodes = binary, directory, {}
        # Below the range of outgoing connections, so that nobody takes a port of a killed node.
        self.port = random.randrange(12000, 30000)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.nodes.values():
            process.kill()
            process.wait()

    def start(self, index, peers, work=()):
        name = f"n{index}"
        args = ["--node", f"id={name}", f"datadir={self.directory}/data", "--log-level", "level=warning"]
        args += ["--control-service", f"filename={self.directory}/{name}.sock"]
        args += ["--tcp-listener", "bindaddr=127.0.0.1", f"port={self.port + index}"]
        for peer in peers:
            args += ["--tcp-peer", f"address=127.0.0.1:{self.port + peer}"]
        for work_type, command, params in work:
            args += ["--work-command", f"worktype={work_type}", f"command={command}", f"params={params}"]
        with open(f"{self.directory}/{name}.log", "a") as log:
            self.nodes[name] = subprocess.Popen([self.binary, *args], stdout=log, stderr=log)

    def connect(self, node):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(f"{self.directory}/{node}.sock")
        reader = connection.makefile("rb")
        reader.readline()
        return connection, reader

    def command(self, node, line):
        connection, reader = self.connect(node)
        with connection:
            connection.sendall(line.encode() + b"\n")
            return json.loads(reader.readline())

    def has_all_routes(self, node):
        try:
            status = self.command(node, '{"command":"status","requested_fields":["RoutingTable"]}')
        except (OSError, ValueError):
            return False
        return len(status["RoutingTable"]) == len(self.nodes) - 1

    def wait_for_routes(self, limit=90):
        start, missing = time.monotonic(), list(self.nodes)
        while missing and time.monotonic() - start < limit:
            while missing and self.has_all_routes(missing[-1]):
                missing.pop()
            time.sleep(0.02)
        assert not missing, f"no routes after {limit} s: {missing}"

    def submit(self, node, target, work_type, payload):
        connection, reader = self.connect(node)
        with connection:
            connection.sendall(f"work submit {target} {work_type}\n".encode())
            assert b"created with ID" in reader.readline()
            connection.sendall(payload)
            connection.shutdown(socket.SHUT_WR)
            return json.loads(reader.readline())["unitid"]

    def results(self, node, unit, size):
        """Reads `size` bytes; the end of the stream is not waited for."""
        connection, reader = self.connect(node)
        with connection:
            connection.sendall(f"work results {unit}\n".encode())
            assert reader.readline().startswith(b"Streaming results")
            digest, got = hashlib.sha256(), 0
            while got < size and (piece := reader.read1(1 << 20)):
                digest.update(piece)
                got += len(piece)
            assert got == size, f"{got} of {size} bytes"
            return digest.hexdigest()


def median_us(values):
    return f"{statistics.median(values) * 1e6:.0f} µs"


def chain(binary):
    with tempfile.TemporaryDirectory() as directory, Mesh(binary, directory) as mesh:
        work = [("cat", "cat", ""), ("produce", "python3", f"{directory}/produce.py")]
        with open(f"{directory}/produce.py", "w") as file:
            file.write(PRODUCER)
        for index in range(4):
            mesh.start(index, [index - 1] if index else [], work)
        mesh.wait_for_routes()
        # A classic executor is reached as soon as there are routes, but its work types come a little later.
        time.sleep(1)

        connection, reader = mesh.connect("n0")
        pings = []
        for _ in range(500):
            connection.sendall(b"ping n3\n")
            pings.append(json.loads(reader.readline())["Time"] / 1e9)
        print(f"  ping over three hops: median {median_us(pings)} of {len(pings)}")

        payload, times = os.urandom(1024), []
        begin = time.monotonic()
        while len(times) < 40 and time.monotonic() - begin < 20:
            start = time.monotonic()
            unit = mesh.submit("n0", "n2", "cat", payload)
            assert mesh.results("n0", unit, 1024) == hashlib.sha256(payload).hexdigest()
            times.append(time.monotonic() - start)
            mesh.command("n0", f"work release {unit}")
        print(f"  remote cat of 1 KiB over two hops, submit to last byte: median {median_us(times)} of {len(times)}")

        block, expected, left = bytes(range(251)) * 4178, hashlib.sha256(), OUTPUT
        while left:
            expected.update(block[:left])
            left -= len(block[:left])
        start = time.monotonic()
        unit = mesh.submit("n0", "n2", "produce", b"")
        digest = mesh.results("n0", unit, OUTPUT)
        took = time.monotonic() - start
        verdict = "right" if digest == expected.hexdigest() else "WRONG"
        print(f"  256 MiB of output over two hops: {took:.2f} s, {OUTPUT / took / 2**20:.0f} MiB/s, SHA-256 {verdict}")


def cpu_seconds(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def scale(binary, nodes, links):
    random.seed(7)
    edges = {(i, random.randrange(i)) for i in range(1, nodes)}
    while len(edges) < links:
        a, b = sorted(random.sample(range(nodes), 2), reverse=True)
        edges.add((a, b))
    with tempfile.TemporaryDirectory() as directory, Mesh(binary, directory) as mesh:
        start = time.monotonic()
        for index in range(nodes):
            mesh.start(index, [b for a, b in edges if a == index])
        mesh.wait_for_routes()
        print(f"  {nodes} nodes, {len(edges)} links: all routes {time.monotonic() - start:.2f} s after the first start")
        time.sleep(15)
        pids, idle = [process.pid for process in mesh.nodes.values()], 20
        before = [cpu_seconds(pid) for pid in pids]
        time.sleep(idle)
        used = [(cpu_seconds(pid) - b) / idle * 1e3 for pid, b in zip(pids, before)]
        memory = [resident_kib(pid) / 1024 for pid in pids]
        print(f"  idle: mean {statistics.mean(used):.3f} ms of CPU per node and second, worst {max(used):.3f}")
        print(f"  resident: median {statistics.median(memory):.1f} MiB, worst {max(memory):.1f}")


def main():
    match sys.argv[1:]:
        case ["chain", first, *more]:
            for binary in [first, *more]:
                print(binary)
                chain(binary)
        case ["scale", binary, *size]:
            print(binary)
            nodes = int(size[0]) if size else 100
            scale(binary, nodes, int(size[1]) if len(size) > 1 else nodes * 3 // 2)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
