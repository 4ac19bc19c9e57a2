"""A slow link between two network namespaces, made of two tun devices and a thread: what netem does, also where the kernel has
no netem. Both ends have Reno as the congestion control of their TCP, whatever the machine's default. Needs root. Packets leave at the link's rate, arrive a delay later, and find a queue of 1.5 MB (netem's default
1,000 packets)."""
import collections
import fcntl
import os
import select
import struct
import subprocess
import threading
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
QUEUE_BYTES = 1_500_000


class SlowLink:
    """`places` are the (namespace, address) of either end."""

    def __init__(self, bits_per_second, delay):
        self.rate, self.delay = bits_per_second, delay
        self.places = [(f"near{os.getpid()}", "10.231.77.1"), (f"far{os.getpid()}", "10.231.77.2")]
        self.ended = False

    def __enter__(self):
        self.tuns = []
        for index, (namespace, address) in enumerate(self.places):
            device = f"slow{index}p{os.getpid()}"[:15]
            tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22s", device.encode(), IFF_TUN | IFF_NO_PI, b""))
            self.tuns.append(tun)
            peer = self.places[1 - index][1]
            for line in (f"ip netns add {namespace}", f"ip link set {device} netns {namespace}", f"ip -n {namespace} link set lo up",
                         f"ip -n {namespace} addr add {address} peer {peer} dev {device}", f"ip -n {namespace} link set {device} up"):
                subprocess.run(line.split(), check=True)
            # Linux' BBR stops a link for 200 ms each ten seconds to measure it, and a ping with it. A namespace may not choose CUBIC.
            subprocess.run(["ip", "netns", "exec", namespace, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"], check=True)
        self.thread = threading.Thread(target=self.carry)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.thread.join()
        for tun in self.tuns:
            os.close(tun)
        for namespace, _ in self.places:
            subprocess.run(["ip", "netns", "del", namespace], check=False)

    def carry(self):
        # Of each direction: packets as (arrival, bytes), and when the link is free again.
        queues, free_at = [collections.deque(), collections.deque()], [0.0, 0.0]
        while not self.ended:
            now = time.monotonic()
            for queue, out in zip(queues, reversed(self.tuns)):
                while queue and queue[0][0] <= now:
                    os.write(out, queue.popleft()[1])
            due = min((queue[0][0] for queue in queues if queue), default=now + 0.1)
            ready, _, _ = select.select(self.tuns, [], [], max(0, due - time.monotonic()))
            for tun in ready:
                index = self.tuns.index(tun)
                packet = os.read(tun, 65536)
                now = time.monotonic()
                if (free_at[index] - now) * self.rate / 8 < QUEUE_BYTES:
                    free_at[index] = max(now, free_at[index]) + len(packet) * 8 / self.rate
                    queues[index].append((free_at[index] + self.delay, packet))
