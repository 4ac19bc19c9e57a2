#!/usr/bin/env python3
"""Round trips of pings over a loaded link, in milliseconds:

    benches/latency.py TOOLS NAME=BINARY [NAME=BINARY ...] [--seconds 10] [--parallel 1]

One hop of receptor daemons, loaded by iperf3 through `tcp-server` and `tcp-client`: over loopback, and (as root, in network
namespaces made for it) over a link of 20 Mbit/s with 20 ms delay each way and a queue of 1.5 MB. TOOLS as for
`benches/throughput.py`.
"""
import argparse
import os
import statistics
import subprocess
import tempfile
import threading
import time

from relays import command, free_ports, iperf, library_path, receptor, wait_for_port
from slow_link import SlowLink


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools")
    parser.add_argument("binaries", nargs="+", metavar="NAME=BINARY")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--parallel", type=int, default=1)
    options = parser.parse_args()
    print("| link | daemon | load Mbit/s | pings | idle p50 ms | loaded p50 ms | loaded p99 ms |")
    print("|---|---|---|---|---|---|---|")
    for argument in options.binaries:
        name, binary = argument.split("=", 1)
        measure("loopback", options, name, os.path.abspath(binary), None)
    if os.geteuid() != 0:
        return print("<!-- not root: no network namespaces, no slow link -->")
    for argument in options.binaries:
        name, binary = argument.split("=", 1)
        with SlowLink(20e6, 0.02) as slow:
            measure("20 Mbit/s, 2 × 20 ms", options, name, os.path.abspath(binary), slow.places)


def measure(link, options, name, binary, places):
    tools = os.path.abspath(options.tools)
    near, far = [namespace for namespace, _ in places] if places else (None, None)
    inside = ["ip", "netns", "exec", far] if far else []
    with tempfile.TemporaryDirectory(prefix="latency") as directory:
        (target,) = free_ports(1)
        server = subprocess.Popen([*inside, f"{tools}/usr/bin/iperf3", "-s", "-p", str(target)], stdout=subprocess.DEVNULL,
                                  env={**os.environ, "LD_LIBRARY_PATH": library_path(tools)})
        chain = None
        try:
            if far is None:
                wait_for_port(target)
            chain = receptor(name, binary, directory, 1, target, places)
            time.sleep(1)
            idle = pings(chain, 2)
            load = []
            loader = threading.Thread(target=lambda: load.append(iperf(tools, chain.port, options.seconds, options.parallel, near)))
            loader.start()
            time.sleep(2)
            loaded = pings(chain, options.seconds - 3)
            loader.join()
            count, seconds, _ = load[0]
            ordered = sorted(loaded)
            print(f"| {link} | {name} | {count * 8 / seconds / 1e6:.0f} | {len(loaded)} | {statistics.median(idle):.2f} "
                  f"| {statistics.median(loaded):.2f} | {ordered[int(len(ordered) * 0.99)]:.2f} |", flush=True)
        finally:
            if chain:
                chain.stop()
            server.kill()
            server.wait()


def pings(chain, seconds):
    """Round-trip times, as the daemon measured them, one every 10 ms."""
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        answer = command(chain.control, f'{{"command":"ping","target":"{chain.last}"}}')
        # A lost ping counts with the time after which it was given up.
        times.append(answer.get("Time", 10e9) / 1e6)
        time.sleep(0.01)
    return times


if __name__ == "__main__":
    main()
