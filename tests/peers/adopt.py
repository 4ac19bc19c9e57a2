"""What a controller does with the unit of another one that is gone: adopt.py SOCKET NODE UNIT OFFSET OUTPUT."""

import json
import sys
import time

from receptorctl import ReceptorControl

socket, node, unit, offset, expected = sys.argv[1:]
rc = ReceptorControl(socket)


def refused(command):
    try:
        rc.simple_command(command)
    except RuntimeError as error:
        return str(error)
    raise AssertionError(f"{command} was not refused")


adopt = json.dumps({"command": "work", "subcommand": "adopt", "node": node, "unitid": unit})
assert refused(f"work status {unit}") == f"unknown work unit {unit}"
assert rc.simple_command(adopt) == {"result": "Adopted", "unitid": unit}
assert rc.simple_command(adopt) == {"result": "Already Adopted", "unitid": unit}
status = rc.simple_command(f"work status {unit}")
assert status["ExtraData"]["RemoteNode"] == node, status
assert status["ExtraData"]["RemoteWorkType"] == "cat", status

results = ReceptorControl(socket).get_work_results(unit, startpos=int(offset)).read()
assert results == expected.encode(), results

deadline = time.monotonic() + 120
while rc.simple_command(f"work status {unit}")["StateName"] != "Succeeded":
    assert time.monotonic() < deadline, "it does not end"
    time.sleep(0.05)

assert rc.simple_command(f"work release {unit}") == {"released": unit}
while unit in rc.simple_command("work list"):
    assert time.monotonic() < deadline, "the unit stays listed"
    time.sleep(0.05)
# A reaper that comes twice.
assert rc.simple_command(f"work release {unit}") == {"released": unit}
assert "unknown work unit " in refused(f"work status {unit}")
assert refused(adopt).startswith(f"unknown work unit {unit}")
print("all of it held")
