"""Give every peer what costs it nothing: memory that glibc keeps, and Intel's products on any processor."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# glibc gives large blocks back at every `free`, and the kernel clears them anew: a tenth to a half of a step.
KEEP_MEMORY = {
    "glibc.malloc.mmap_max": "0",
    "glibc.malloc.trim_threshold": str(2**36),
    "glibc.malloc.top_pad": str(2**28),
    "glibc.malloc.hugetlb": "1",
}
# MKL, which PyTorch's wheels contain, takes AVX2 at most on processors that are not Intel's; this answers its
# question in their place. On one with AVX-512 it doubles the speed of PyTorch's products.
ANY_PROCESSOR = "int mkl_serv_intel_cpu(void) { return 1; }\nint mkl_serv_intel_cpu_true(void) { return 1; }\n"


def environment(library: str, cores: int) -> dict[str, str]:
    """Return the variables of a peer's process."""
    variables = {
        "GLIBC_TUNABLES": ":".join(f"{name}={value}" for name, value in KEEP_MEMORY.items()),
        "OMP_NUM_THREADS": str(cores),
        "JAX_PLATFORMS": "cpu",
    }
    answer = any_processor() if library == "torch" else None
    if answer is not None:
        variables["LD_PRELOAD"] = str(answer)
    return os.environ | variables


def any_processor() -> Path | None:
    """Return a shared library that lets MKL use the whole processor; None where no compiler can make it."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    folder = Path(tempfile.gettempdir(), f"coordfit-peers-{os.getuid()}")
    library = folder / "any_processor.so"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        source = library.with_suffix(".c")
        source.write_text(ANY_PROCESSOR, encoding="ascii")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    return library
