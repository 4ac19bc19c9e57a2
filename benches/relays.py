"""Chains of relays on loopback: HAProxy, and receptor daemons with the classic command line; and iperf3 to load them."""
import json
import os
import random
import re
import socket
import subprocess
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30


def wait_for_port(port, limit=30):
    # Without connecting: a connection that says nothing confuses iperf3.
    start, listening = time.monotonic(), re.compile(f":{port:04X} 0+:0000 0A")
    while time.monotonic() - start < limit:
        for family in ("tcp", "tcp6"):
            with open(f"/proc/net/{family}") as table:
                if listening.search(table.read()):
                    return
        time.sleep(0.05)
    sys.exit(f"nobody listens on port {port} after {limit} s")


def free_ports(count):
    # Below the range of outgoing connections, so that nobody takes one in between.
    first = random.randrange(12000, 30000)
    return list(range(first, first + count))


class Chain:
    """Relays between the port of the first and the target of the last."""

    def __init__(self, name):
        self.name, self.processes = name, []

    def spawn(self, args, log, env=None, namespace=None):
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        with open(log, "a") as out:
            self.processes.append(subprocess.Popen([*inside, *args], stdout=out, stderr=out, env=env))

    def cpu(self):
        """Seconds of CPU that the relays have used, their ended children included."""
        total = 0
        for process in self.processes:
            with open(f"/proc/{process.pid}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            total += sum(int(field) for field in fields[11:15])
        return total / TICKS

    def memory(self):
        """MiB resident, the largest of the relays."""
        sizes = []
        for process in self.processes:
            with open(f"/proc/{process.pid}/status") as status:
                sizes += [int(line.split()[1]) for line in status if line.startswith("VmHWM")]
        return max(sizes) / 1024

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def haproxy(tools, directory, hops, target, tls):
    chain = Chain("haproxy-tls" if tls else "haproxy")
    ports = free_ports(hops + 1)
    certificate = f"{directory}/haproxy.pem"
    if tls and not os.path.exists(certificate):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
                        "-subj", "/CN=relay", "-keyout", f"{directory}/key.pem", "-out", f"{directory}/cert.pem"],
                       check=True, capture_output=True)
        with open(certificate, "w") as both:
            for part in ("cert.pem", "key.pem"):
                with open(f"{directory}/{part}") as text:
                    both.write(text.read())
    for index, port in enumerate(ports):
        following = ports[index + 1] if index < hops else target
        accept = f" ssl crt {certificate} ssl-min-ver TLSv1.3" if tls and index == hops else ""
        connect = " ssl verify none ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256" if tls and index == 0 else ""
        config = f"{directory}/{chain.name}-{hops}-{index}.cfg"
        with open(config, "w") as text:
            text.write(f"""
global
    maxconn 1000
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen relay
    bind 127.0.0.1:{port}{accept}
    server next 127.0.0.1:{following}{connect}
""")
        environment = {**os.environ, "LD_LIBRARY_PATH": library_path(tools)}
        chain.spawn([f"{tools}/usr/sbin/haproxy", "-db", "-f", config], f"{config}.log", environment)
    chain.port = ports[0]
    return chain


def receptor(name, binary, directory, hops, target, places=None):
    """Places are (network namespace, address) of each node; by default all are on loopback."""
    chain = Chain(name)
    ports = free_ports(hops + 1)
    places = places or [(None, "127.0.0.1")] * (hops + 1)
    for index, (namespace, address) in enumerate(places):
        node = f"{name}-{hops}-{index}"
        args = ["--node", f"id={node}", f"datadir={directory}/{name}-data", "--log-level", "level=warning"]
        args += ["--control-service", f"filename={directory}/{node}.sock"]
        if index < hops:
            args += ["--tcp-listener", f"bindaddr={address}", f"port={ports[index + 1]}"]
        else:
            args += ["--tcp-client", "service=iperf", f"address=127.0.0.1:{target}"]
        if index > 0:
            args += ["--tcp-peer", f"address={places[index - 1][1]}:{ports[index]}"]
        if index == 0:
            args += ["--tcp-server", "bindaddr=127.0.0.1", f"port={ports[0]}", f"remotenode={name}-{hops}-{hops}", "remoteservice=iperf"]
        chain.spawn([binary, *args], f"{directory}/{node}.log", namespace=namespace)
    chain.port = ports[0]
    chain.control, chain.last = f"{directory}/{name}-{hops}-0.sock", f"{name}-{hops}-{hops}"
    start = time.monotonic()
    while not routed(chain.control, chain.last):
        if time.monotonic() - start > 60:
            chain.stop()
            sys.exit(f"{name}: no route over {hops} hops after 60 s")
        time.sleep(0.1)
    return chain


def command(control, line, limit=30):
    """One command on a control socket, and its answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(limit)
        connection.connect(control)
        reader = connection.makefile("rb")
        reader.readline()
        connection.sendall(line.encode() + b"\n")
        return json.loads(reader.readline())


def routed(control, node):
    try:
        return node in (command(control, '{"command":"status","requested_fields":["RoutingTable"]}', 5)["RoutingTable"] or {})
    except (OSError, ValueError):
        return False


def library_path(tools):
    base = f"{tools}/usr/lib"
    return ":".join([base] + [f"{base}/{entry}" for entry in os.listdir(base) if os.path.isdir(f"{base}/{entry}")])


def iperf(tools, port, seconds, parallel, namespace=None):
    """Loads a chain; returns bytes received, seconds, and the bytes of each stream."""
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    args = [*inside, f"{tools}/usr/bin/iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", str(seconds), "-P", str(parallel), "-J"]
    for pause in (0.2, 1, 5, None):
        done = subprocess.run(args, capture_output=True, env={**os.environ, "LD_LIBRARY_PATH": library_path(tools)}, timeout=seconds + 60)
        report = json.loads(done.stdout)
        if "error" not in report:
            break
        # The server still reads what another chain has not yet delivered.
        if pause is None or "busy" not in report["error"]:
            sys.exit(f"iperf3: {report['error']}")
        time.sleep(pause)
    streams = [stream["receiver"]["bytes"] for stream in report["end"]["streams"]]
    return report["end"]["sum_received"]["bytes"], report["end"]["sum_received"]["seconds"], streams
