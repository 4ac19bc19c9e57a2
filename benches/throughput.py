#!/usr/bin/env python3
"""One TCP connection (iperf3) through chains of relays on loopback, side by side in one run:

    benches/throughput.py TOOLS NAME=BINARY [NAME=BINARY ...] [--hops 1,3] [--rounds 5] [--seconds 4] [--parallel 1]

TOOLS is where `benches/fetch-tools TOOLS` left HAProxy and iperf3. Each BINARY is a receptor daemon with the classic command
line (ours, or the Go one): `tcp-server` on the first node, `tcp-client` on the last, TCP links between. "haproxy-tls" is a chain of
HAProxy relays with TLS 1.3 (AES-128-GCM) from the first to the last, "haproxy" the same without TLS; as many hops, so as many
processes. Rounds are interleaved, so that what else the machine does falls on all alike; medians are printed.

CPU is user and system time of the relays alone, without iperf3, per GiB carried.
"""
import argparse
import os
import statistics
import subprocess
import tempfile
import time

from relays import GIB, free_ports, haproxy, iperf, library_path, receptor, wait_for_port


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools")
    parser.add_argument("binaries", nargs="+", metavar="NAME=BINARY")
    parser.add_argument("--hops", default="1,3")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--parallel", type=int, default=1)
    options = parser.parse_args()
    tools = os.path.abspath(options.tools)
    print("| hops | relay | MiB/s | CPU s per GiB | × haproxy-tls rate | × haproxy-tls CPU | largest relay MiB |")
    print("|---|---|---|---|---|---|---|")
    for hops in map(int, options.hops.split(",")):
        with tempfile.TemporaryDirectory(prefix="throughput") as directory:
            measure(options, tools, directory, hops)


def measure(options, tools, directory, hops):
    (target,) = free_ports(1)
    server = subprocess.Popen([f"{tools}/usr/bin/iperf3", "-s", "-p", str(target)], stdout=subprocess.DEVNULL,
                              env={**os.environ, "LD_LIBRARY_PATH": library_path(tools)})
    chains = []
    try:
        wait_for_port(target)
        chains.append(haproxy(tools, directory, hops, target, tls=True))
        chains.append(haproxy(tools, directory, hops, target, tls=False))
        for argument in options.binaries:
            name, binary = argument.split("=", 1)
            chains.append(receptor(name, os.path.abspath(binary), directory, hops, target))
        for chain in chains:
            wait_for_port(chain.port)
        time.sleep(1)
        results = {chain.name: [] for chain in chains}
        spreads = {chain.name: [] for chain in chains}
        for _ in range(options.rounds):
            for chain in chains:
                before = chain.cpu()
                count, seconds, streams = iperf(tools, chain.port, options.seconds, options.parallel)
                results[chain.name].append((count / seconds / (1 << 20), (chain.cpu() - before) / (count / GIB)))
                spreads[chain.name].append(max(streams) / max(1, min(streams)))
        medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}
        rate, cpu = medians["haproxy-tls"]
        for chain in chains:
            own_rate, own_cpu = medians[chain.name]
            print(f"| {hops} | {chain.name} | {own_rate:.0f} | {own_cpu:.2f} | {own_rate / rate:.2f} | {own_cpu / cpu:.2f} "
                  f"| {chain.memory():.0f} |", flush=True)
            if options.parallel > 1:
                print(f"<!-- {chain.name}: most / least of {options.parallel} streams {statistics.median(spreads[chain.name]):.2f} -->")
    finally:
        for chain in chains:
            chain.stop()
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
