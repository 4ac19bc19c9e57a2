"""Runs a program on a terminal of its own: in_terminal.py LINE EXPECTED PROGRAM...

Types LINE, waits until EXPECTED was printed, types the end of input, and prints everything the terminal showed.
"""

import os
import pty
import select
import sys
import time

line, expected, program = sys.argv[1], sys.argv[2].encode(), sys.argv[3:]
child, terminal = pty.fork()
if child == 0:
    os.execv(program[0], program)

# Longer than anything here takes on a busy machine.
deadline = time.monotonic() + 110
shown = b""
typed = False
ended = False
while True:
    assert time.monotonic() < deadline, shown
    if not typed and b"Receptor Control" in shown:
        os.write(terminal, line.encode() + b"\n")
        typed = True
    if typed and not ended and expected in shown:
        os.write(terminal, b"\x04")
        ended = True
    if not select.select([terminal], [], [], 1)[0]:
        continue
    try:
        data = os.read(terminal, 4096)
    except OSError:
        # How Linux tells that nobody has the terminal open any more.
        break
    if not data:
        break
    shown += data

sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
