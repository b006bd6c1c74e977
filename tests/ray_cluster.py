"""A Ray cluster of two nodes on this machine, for tests: run as a program, it takes `kill` on standard input.

It prints the address of the cluster, and a line once the second node is dead. It ends with its input.
"""

from __future__ import annotations

import os
import sys

_MEMORY = 100 << 20


def main() -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "object_store_memory": _MEMORY, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    node = cluster.add_node(num_cpus=1, object_store_memory=_MEMORY)
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            node.kill_raylet()
            print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
