"""Run a command and print its wall time in seconds and its peak memory in KiB, as JSON.

A process of its own, started with `-I -S`: a child's memory counts from what its parent had.
"""

import json
import os
import resource
import subprocess
import sys
import time

with open(os.devnull, "w") as nowhere:  # noqa: PTH123  # pathlib would count as well
    begun = time.perf_counter()
    child = subprocess.Popen(sys.argv[1:], stdout=nowhere, stderr=nowhere)
    child.wait()
    elapsed = time.perf_counter() - begun
print(json.dumps([elapsed, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
