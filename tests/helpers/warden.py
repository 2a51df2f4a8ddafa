"""Opens packages for forge.py in a process of its own: a line of JSON in, a line of JSON out."""

import json
import resource
import signal
import sys
import warnings
from pathlib import Path

import numpy as np

import modelkit as mk
from modelkit.package import draws, load, scan
from modelkit.runtimes import onnx, sessions

MEMORY, SECONDS = (
    2 << 30,
    30,
)  # beyond what is there after the imports; of a processor, for one package
HOME = (
    sys.prefix,
    sys.base_prefix,
    str(Path(mk.__file__).parent),
    "/proc/self/cgroup",
    "/sys/fs/cgroup/",
)
KINDS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "socket.connect",
         "os.mkdir", "os.remove", "os.rename", "os.chmod", "os.symlink", "os.link", "os.truncate")  # fmt: skip
events = []
told = {}
sessions.ort()  # it reads files of the system when it is imported


def listen(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        reads = arguments[1] in ("r", "rb", None) and not (arguments[2] or 0) & 3
        if not (reads and arguments[0].startswith(HOME)):
            events.append([event, arguments[0]])
    elif event in KINDS:
        events.append([event, str(arguments[0])])


def serve(path, then=None, digest=None, allow=(), trust=None, unseal=None, deadline=None):
    """Open one package and do what is asked; keys are texts of PEM."""
    keys = {
        "trust": None if trust is None else mk.Trust([trust.encode()]),
        "unseal": None if unseal is None else unseal.encode(),
    }
    if then == "inspect":
        return {"answer": mk.inspect(path).digest}
    with mk.load(path, digest=digest, allow=set(allow), threads=1, **keys) as model:
        told["loaded"] = True
        if then == "verify":
            return {"answer": model.verify()}
        if then == "predict":
            feeds = next(draws.draws(model.signature, None))
            answer = model.run(feeds, deadline=deadline)
            return {
                "answer": {name: np.asarray(part, object).tolist() for name, part in answer.items()}
            }
        return {"answer": None}


def answer(asked):
    events.clear()
    told.clear()
    told.update(error=None, loaded=False)
    try:
        told.update(serve(**asked))
    except Exception as error:  # whatever it is, it is told
        told.update(error=[kind.__name__ for kind in type(error).__mro__], message=str(error))
    return told | {"events": list(events), "joblib": "joblib" in sys.modules}


def main():
    # Imported before anything is listened to.
    assert {load, scan, onnx} <= set(sys.modules.values())
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    sys.addaudithook(listen)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        print(json.dumps(answer(json.loads(line)), default=str), flush=True)
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
