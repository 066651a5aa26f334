"""What can go wrong on the way from the tests' Hub to its client, as data that a test switches on."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field


@dataclass
class Fault:
    """Strikes requests whose method and path match, `times` times (None: for ever).

    kind:
        "cut"     the connection ends after `after` bytes of the body, though more were promised
        "reset"   the same, but with a reset instead of an orderly end
        "status"  the answer is `status` and nothing else
        "flip"    the lowest bit of the body's byte number `after` is turned
        "slow"    a pause of `seconds` after every `after` bytes (default 64 KiB)
        "trickle"  a pause of `seconds` after every byte of the head
        "ignore-range"  a request for a part is answered by the whole
    """

    kind: str
    path: str = r"^/cdn/"  # searched in the path; /cdn/ is where large files are served
    method: str = "GET"
    after: int = 0
    status: int = 503
    seconds: float = 0.0
    times: int | None = 1
    struck: int = 0


@dataclass
class Faults:
    """The faults that are switched on; `server.faults.add(Fault(...))`."""

    waiting: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self.waiting.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self.waiting.clear()

    def strike(self, method: str, path: str) -> Fault | None:
        """The first fault that this request meets; it counts as struck."""
        with self._lock:
            for fault in self.waiting:
                left = fault.times is None or fault.struck < fault.times
                if left and fault.method == method and re.search(fault.path, path):
                    fault.struck += 1
                    return fault
        return None
