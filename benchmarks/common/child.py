"""What core.py runs in a process of its own: `child.py SCRIPT FILE WIDTH [CYCLES]`.

Once: prints the seconds since the first line, and the MiB of memory after the first answer and at
the peak. With CYCLES: loads, predicts and closes that often, and prints the MiB of memory of each
cycle.
"""

import time

START = time.perf_counter()

import sys  # noqa: E402 - the clock starts first


def modelkit(path, width):
    import numpy as np

    import modelkit as mk

    model = mk.load(path)
    model.predict(np.zeros((1, width), np.float32))
    return model.close


def bare(path, width, source=None):
    import numpy as np
    import onnxruntime as ort

    session = ort.InferenceSession(source or path, providers=["CPUExecutionProvider"])
    session.run(None, {session.get_inputs()[0].name: np.zeros((1, width), np.float32)})
    return lambda: session  # dropped with the answer


def bare_hashed(path, width):
    """What modelkit guarantees: the bytes that run are the bytes that were hashed."""
    import hashlib

    with open(path, "rb") as file:  # pathlib is not free to import
        data = file.read()
    hashlib.sha256(data).hexdigest()
    return bare(path, width, data)


def memory(key):
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(key))


if __name__ == "__main__":
    script, path, width, *cycles = sys.argv[1:]
    for _ in range(int(cycles[0]) if cycles else 1):
        close = globals()[script](path, int(width))
        print(*([] if cycles else [time.perf_counter() - START]), memory("VmRSS"), memory("VmHWM"))
        close()
        del close
