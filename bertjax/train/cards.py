"""NVIDIA's GPUs as XLA's compiler wants them described, to compile for one that is not here."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """What the compiler asks of an NVIDIA GPU, by its datasheet and CUDA's documentation of its compute capability."""

    kind: str
    """As JAX calls it."""
    capability: int
    """The major number of its compute capability; the minor one is 0."""
    cores: int
    """Streaming multiprocessors."""
    floats_per_core: int
    """Float32 units of each."""
    shared_bytes: int
    """Shared memory of a core; a block may have all but 1 KiB of it."""
    cache_bytes: int
    clock_ghz: float
    memory_bytes: int
    bytes_per_second: int

    def target(self) -> str:
        """XLA's description of it, in the text form of its protocol buffers."""
        return f"""gpu_device_info {{
  cuda_compute_capability {{ major: {self.capability} }} core_count: {self.cores} fpus_per_core: {self.floats_per_core}
  clock_rate_ghz: {self.clock_ghz} l2_cache_size: {self.cache_bytes}
  device_memory_size: {self.memory_bytes} memory_bandwidth: {self.bytes_per_second}
  shared_memory_per_core: {self.shared_bytes} shared_memory_per_block: 49152
  shared_memory_per_block_optin: {self.shared_bytes - 1024}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 8 }} device_description_str: "{self.kind}"
"""


CARDS: Mapping[str, Card] = {
    "a100": Card("NVIDIA A100-SXM4-80GB", 8, 108, 64, 164 * 1024, 40 * 2**20, 1.41, 80 * 2**30, 2_039_000_000_000),
    "h100": Card("NVIDIA H100 80GB HBM3", 9, 132, 128, 228 * 1024, 50 * 2**20, 1.98, 80 * 2**30, 3_350_000_000_000),
    "h200": Card("NVIDIA H200", 9, 132, 128, 228 * 1024, 50 * 2**20, 1.98, 141 * 10**9, 4_800_000_000_000),
}
"""By the names that `bertjax plan --device` takes."""
