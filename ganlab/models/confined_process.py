"""Program of the process that unpickles a user's model and runs it; a script, which imports nothing of this project.

Invariant: before a byte of the file is unpickled, the kernel (Landlock) has taken away the rights to write, create or
remove files outside of the folder given and to look into other processes; from Linux 6.7 on to open TCP connections, and
from 6.12 on to signal other processes.

Arguments: the folder, then the request as JSON (see `ganlab.models.confined`). Messages on the two pipes are .npy arrays;
an answer begins with one byte, 1 for an array and 0 for the text of an error.
"""

import ctypes
import io
import json
import os
import pickle
import platform
import signal
import sys
import zipfile
from typing import Any

PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG = 38, 1
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
WRITE_FILE, READ_FILE = 1 << 1, 1 << 2
# Write, remove, make, refer and truncate: Landlock's rights of files from the first version to the third.
CHANGES = WRITE_FILE | sum(1 << bit for bit in range(4, 15))
TCP = 0b11
SIGNALS_AND_SOCKETS = 0b11
OLDEST = 3
READABLE = ("self", "cpuinfo", "meminfo", "stat", "filesystems", "sys", "driver")
"""Readable paths of /proc, which also holds the environments of other processes."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/nvidiactl", "/dev/nvidia-uvm", *(f"/dev/nvidia{n}" for n in range(16)))


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def confine(folder: str) -> None:
    """Give up changes of files outside of the folder, other processes, and TCP. OSError where the kernel can't."""
    kernel = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: object) -> int:
        result = int(kernel.syscall(ctypes.c_long(number), *arguments))
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    nothing, size = ctypes.c_void_p(None), ctypes.c_size_t
    try:
        version = call(CREATE_RULESET, nothing, size(0), ctypes.c_uint32(1))
    except OSError:
        version = 0
    if version < OLDEST:
        raise OSError(
            f"the kernel of this machine ({platform.release()}) cannot confine a process: it has Landlock "
            f"version {version}, and {OLDEST} is needed (Linux 6.2)"
        )
    rules = _Ruleset(CHANGES | READ_FILE, TCP if version >= 4 else 0, SIGNALS_AND_SOCKETS if version >= 6 else 0)
    length = size(24 if version >= 6 else 16 if version >= 4 else 8)
    ruleset = call(CREATE_RULESET, ctypes.byref(rules), length, ctypes.c_uint32(0))
    readable = [f"/{name}" for name in os.listdir("/") if name != "proc"] + [f"/proc/{name}" for name in READABLE]
    rights_of = dict.fromkeys(readable, READ_FILE) | dict.fromkeys(DEVICES, WRITE_FILE) | {folder: CHANGES}
    for path, rights in rights_of.items():
        if not os.path.exists(path):
            continue
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = _Beneath(rights, parent)
        call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0))
        os.close(parent)
    if kernel.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)


def load(request: dict[str, Any]) -> Any:
    """Unpickle what the request names, and return the module that is called with latent vectors."""
    import torch

    sys.path[:0] = [request["code"]] if request["code"] else []
    if request["format"] == "torch-export":
        return torch.export.load(request["path"]).module().to(request["device"])
    if zipfile.is_zipfile(request["path"]):
        held = torch.load(request["path"], map_location="cpu", weights_only=False)
    else:
        with open(request["path"], "rb") as file:
            held = pickle.load(file)
    if isinstance(held, dict):
        if request["entry"] not in held:
            raise ValueError(f"there is no {request['entry']} in it; allowed: entry: {' or '.join(map(str, held))}")
        held = held[request["entry"]]
    if not callable(held):
        raise ValueError(f"it holds a {type(held).__name__}; allowed: a module, or a dictionary with one as `entry`")
    return held.eval().requires_grad_(False).to(request["device"]) if isinstance(held, torch.nn.Module) else held


def main() -> None:
    """Confine this process, load the model, and answer until the pipe ends."""
    folder, request = sys.argv[1], json.loads(sys.argv[2])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the model prints is no answer
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    def answer(kind: int, payload: bytes) -> None:
        answers.write(bytes([kind]) + len(payload).to_bytes(8, "little") + payload)
        answers.flush()

    try:
        confine(folder)
        import numpy as np
        import torch

        torch.set_num_threads(request["threads"])
        # As `use_deterministic_algorithms`, which loads PyTorch's compiler, and so takes as long as PyTorch itself.
        torch.set_deterministic_debug_mode("warn")
        model = load(request)
        facts = {name: int(getattr(model, name)) for name in ("z_dim", "c_dim") if hasattr(model, name)}
        answer(1, json.dumps(facts).encode())
        while head := sys.stdin.buffer.read(8):
            given = np.load(io.BytesIO(sys.stdin.buffer.read(int.from_bytes(head, "little"))), allow_pickle=False)
            torch.manual_seed(int(given["seed"]))
            names = [name for name in ("latent", "label") if name in given]
            inputs: list[torch.Tensor | None] = [torch.from_numpy(given[name]).to(request["device"]) for name in names]
            if "c_dim" in facts and len(inputs) == 1:
                inputs.append(None)  # StyleGAN's second argument, of a model without classes
            with torch.no_grad():
                images = model(*inputs)
            images = images.float() if images.dtype == torch.bfloat16 else images  # which NumPy does not have
            buffer = io.BytesIO()
            np.save(buffer, images.cpu().numpy(), allow_pickle=False)
            answer(1, buffer.getvalue())
    except BaseException as error:
        answer(0, " ".join(f"{type(error).__name__}: {error}".split()).encode(errors="backslashreplace"))


if __name__ == "__main__":
    main()
