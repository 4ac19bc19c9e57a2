"""The other end of a stream, by aioquic: its UDP datagrams stand for those of the mesh.

    aioquic_peer.py dial PORT SIZE    opens a stream, sends SIZE bytes and expects them back
    aioquic_peer.py listen SIZE       says `port N`, then sends back what comes on one stream

Either says `done` at the end, after both directions have ended, and then closes in peace.
"""

import asyncio
import datetime
import hashlib
import random
import ssl
import sys

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

NAME = "netceptor-insecure-common-name"


def say(text):
    print(text, flush=True)


def configuration(is_client):
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["netceptor"],
        verify_mode=ssl.CERT_NONE,
        max_datagram_size=1200,
    )


async def dial(port, size):
    data = random.Random(7).randbytes(size)
    async with connect("127.0.0.1", port, configuration=configuration(True)) as connection:
        reader, writer = await connection.create_stream()
        writer.write(b"\0" + data)
        writer.write_eof()
        back = await reader.read()
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest(), len(back)
        say("done")
        connection.close(0, reason_phrase="normal close")
        await connection.wait_closed()


def certificate():
    """As a Go node makes it: RSA, version 3, without extensions."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(minutes=1))
    return builder.not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()), key


async def listen(size):
    ended = asyncio.Event()

    async def serve_stream(reader, writer):
        first = await reader.readexactly(1)
        assert first == b"\0", first
        data = await reader.readexactly(size)
        assert await reader.read() == b""
        writer.write(data)
        writer.write_eof()
        say("done")
        # The dialler closes; before that, nothing here does.
        await ended.wait()

    config = configuration(False)
    config.certificate, config.private_key = certificate()
    tasks = []

    def on_stream(reader, writer):
        tasks.append(asyncio.ensure_future(serve_stream(reader, writer)))

    server = await serve("127.0.0.1", 0, configuration=config, stream_handler=on_stream)
    say("port %d" % server._transport.get_extra_info("sockname")[1])
    # Until the test ends it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.done() and task.result()
    ended.set()
    server.close()


if sys.argv[1] == "dial":
    asyncio.run(dial(int(sys.argv[2]), int(sys.argv[3])))
else:
    asyncio.run(listen(int(sys.argv[2])))
