"""Where a bench was run: the processor, memory, and versions. No name of the machine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

PACKAGES = (
    *("clipsearch", "torch", "open_clip_torch", "onnxruntime", "faiss-cpu", "numpy", "pillow"),
    *("sqlalchemy",),
)
# What decides how fast a processor multiplies.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_tile", "asimd")


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides how fast things are."""

    processor: str
    cores: int
    memory_gb: float
    features: list[str]
    system: str
    python: str
    packages: dict[str, str]

    @classmethod
    def this(cls) -> Self:
        """Describe this machine."""
        facts = _facts("/proc/cpuinfo")
        flags = (facts.get("flags") or facts.get("Features") or "").split()
        memory = _facts("/proc/meminfo").get("MemTotal", "0 kB").split()[0]
        return cls(
            facts.get("model name") or platform.processor() or platform.machine(),
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1,
            round(int(memory) / 1e6, 1),
            [feature for feature in FEATURES if feature in flags],
            f"{platform.system()} {platform.machine()}",
            platform.python_version(),
            {name: version(name) for name in PACKAGES},
        )

    def __str__(self) -> str:
        features = f" ({', '.join(self.features)})" if self.features else ""
        memory = f", {self.memory_gb:.0f} GB" if self.memory_gb else ""
        return f"{self.processor}{features}, {self.cores} cores{memory}, {self.system}"


def _facts(path: str) -> dict[str, str]:
    """Read `name: value` lines; of names that come again, the first."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in reversed(lines))
    return {name.strip(): value.strip() for name, _, value in pairs}
