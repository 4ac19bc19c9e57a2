#!/usr/bin/env python3
"""Measures work over two hops of real daemons on loopback, the data directories on the disk of TMPDIR:

    benches/work.py [--rounds N] [--only small,load,output,stdin] NAME=BINARY [NAME=BINARY ...]

small   a unit of 1 KiB through `cat`, from the submission to the last byte, one after another
load    100 such units, 20 at once, to the end of each: units per second, and CPU of all daemons, runners and commands
output  256 MiB written by a command
stdin   256 MiB through `cat`, there and back

Each binary has a mesh of its own, all of them for the whole run, and every round asks one after the other, so that figures can
be compared on a machine shared with others. Any binary with the classic command line will do.
"""
import argparse
import contextlib
import os
import statistics
import tempfile
import threading
import time

from live import PRODUCER, Mesh

SIZE = 256 << 20
SMALL, LOAD, AT_ONCE = 25, 100, 20
TICKS = os.sysconf("SC_CLK_TCK")
BLOCK = bytes(range(251)) * 4178
TWICE = BLOCK * 2


class Work(Mesh):
    """Three nodes in a row; `n0` submits to `n2`."""

    def begin(self):
        script = f"{self.directory}/produce.py"
        with open(script, "w") as file:
            file.write(PRODUCER)
        for index in range(3):
            self.start(index, [index - 1] if index else [], [("cat", "cat", ""), ("produce", "python3", script)])
        self.wait_for_routes()
        # A classic executor is reached as soon as there are routes, but its work types come a little later.
        time.sleep(1)
        self.unit(os.urandom(1024))

    def unit(self, payload, whole=False):
        """A small unit; its ID. Takes the last byte for the end, or the end of the stream."""
        unit = self.submit("n0", "n2", "cat", payload)
        connection, reader = self.connect("n0")
        with connection:
            connection.sendall(f"work results {unit}\n".encode())
            reader.readline()
            got = reader.read() if whole else reader.read(len(payload))
            assert got == payload, "wrong output"
        return unit

    def release(self, units):
        for unit in units:
            answer = self.command("n0", f"work release {unit}")
            assert "released" in answer, answer

    def cpu(self):
        """Seconds of CPU of all daemons and the children they have waited for: runners with their commands."""
        total = 0
        for process in self.nodes.values():
            with open(f"/proc/{process.pid}/stat") as stat:
                total += sum(int(field) for field in stat.read().rsplit(")", 1)[1].split()[11:15])
        return total / TICKS

    def small(self):
        payload, times = os.urandom(1024), []
        for _ in range(SMALL):
            start = time.monotonic()
            unit = self.unit(payload)
            times.append((time.monotonic() - start) * 1e3)
            self.release([unit])
        return times

    def load(self):
        payload, units, before = os.urandom(1024), [], self.cpu()

        def work():
            for _ in range(LOAD // AT_ONCE):
                units.append(self.unit(payload, whole=True))

        threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - start
        # The last runners end.
        time.sleep(0.3)
        used = self.cpu() - before
        assert len(units) == LOAD, f"{len(units)} of {LOAD} units"
        self.release(units)
        return [(LOAD / took, used / LOAD * 1e3)]

    def read_back(self, unit):
        connection, reader = self.connect("n0")
        with connection:
            connection.sendall(f"work results {unit}\n".encode())
            assert reader.readline().startswith(b"Streaming results")
            got = 0
            while got < SIZE and (piece := reader.read1(1 << 20)):
                # A piece is shorter than the block.
                at = got % len(BLOCK)
                assert piece == TWICE[at : at + len(piece)], "wrong output"
                got += len(piece)
        assert got == SIZE, f"{got} of {SIZE} bytes"
        self.release([unit])

    def output(self):
        start = time.monotonic()
        unit = self.submit("n0", "n2", "produce", b"")
        self.read_back(unit)
        return [SIZE / (time.monotonic() - start) / 2**20]

    def stdin(self):
        start = time.monotonic()
        connection, reader = self.connect("n0")
        with connection:
            connection.sendall(b"work submit n2 cat\n")
            unit = reader.readline().split()[5].rstrip(b".").decode()
            left = SIZE
            while left:
                connection.sendall(BLOCK[:left])
                left -= len(BLOCK[:left])
            connection.shutdown(1)
            assert b"unitid" in reader.readline()
        self.read_back(unit)
        return [SIZE / (time.monotonic() - start) / 2**20]


def report(kind, values):
    if kind == "small":
        values.sort()
        return f"median {statistics.median(values):.1f} ms, 95 % within {values[len(values) * 95 // 100]:.1f} ms, of {len(values)}"
    if kind == "load":
        rate, cpu = (statistics.median(part) for part in zip(*values))
        return f"{rate:.0f} units/s, {cpu:.1f} ms of CPU each, median of {len(values)} times {LOAD}"
    return f"{statistics.median(values):.0f} MiB/s, median of {len(values)} ({min(values):.0f} to {max(values):.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="small,load,output,stdin")
    parser.add_argument("binaries", nargs="+", metavar="NAME=BINARY")
    options = parser.parse_args()
    kinds = options.only.split(",")
    with contextlib.ExitStack() as stack:
        meshes = {}
        for name, binary in (argument.split("=", 1) for argument in options.binaries):
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            meshes[name] = stack.enter_context(Work(binary, directory))
            meshes[name].begin()
        results = {(kind, name): [] for kind in kinds for name in meshes}
        for _ in range(options.rounds):
            for kind in kinds:
                for name, mesh in meshes.items():
                    results[kind, name] += getattr(mesh, kind)()
        print(f"load of the machine: {os.getloadavg()[0]:.1f}")
        for (kind, name), values in results.items():
            print(f"{kind:7} {name:10} {report(kind, values)}")


if __name__ == "__main__":
    main()
