"""Uses the Python client as a library: client_library.py SOCKET NODE. Any difference is an exception."""

import sys
import time

from receptorctl import ReceptorControl

socket, node = sys.argv[1:]
rc = ReceptorControl(socket)

status = rc.simple_command("status")
assert {"Advertisements", "Connections", "KnownConnectionCosts", "NodeID", "RoutingTable"} <= set(status), status

try:
    rc.simple_command("doesnotexist")
    raise AssertionError("an unknown command was accepted")
except RuntimeError as error:
    assert "Unknown command" in str(error), error

# After an error the session goes on.
assert rc.simple_command("status")["NodeID"] == status["NodeID"]

rc.close()
rc.connect()
rc.connect_to_service(node, "control", "")
rc.handshake()
assert rc.simple_command("status")["NodeID"] == node
rc.close()

payload = "héllo wörld \N{GRINNING FACE} without a line feed"
submitted = rc.submit_work("upper", payload, node=node)
assert submitted["result"] == "Job Started", submitted
unit = submitted["unitid"]

# Longer than anything here takes on a busy machine.
deadline = time.monotonic() + 120
while True:
    unit_status = rc.simple_command(f"work status {unit}")
    if unit_status["Detail"] == "exit status 0" or time.monotonic() > deadline:
        break
    time.sleep(0.05)
assert unit_status["Detail"] == "exit status 0", unit_status
assert unit_status["StateName"] == "Succeeded", unit_status

# `tr` knows ASCII only.
expected = "".join(letter.upper() if letter.isascii() else letter for letter in payload).encode()
results = rc.get_work_results(unit).read()
assert results == expected, (results, expected)
assert rc.get_work_results(unit, startpos=6).read() == expected[6:]

rc.close()
assert rc.simple_command(f"work release {unit}") == {"released": unit}
deadline = time.monotonic() + 120
while unit in rc.simple_command("work list"):
    assert time.monotonic() < deadline, "the unit stays listed"
    time.sleep(0.05)

# Bytes and files are payloads too.
submitted = rc.submit_work("cat", bytes(range(256)), node=node)
assert rc.get_work_results(submitted["unitid"]).read() == bytes(range(256))
print("all of it held")
