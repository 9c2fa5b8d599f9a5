"""Nodes of a Ray cluster on this machine, in a process of their own: Ray reads its settings once.

Says in JSON where the head is, then for each line that it reads the processes of another node.
"""

import json
import sys

from ray.cluster_utils import Cluster


def pids(node) -> list[int]:
    """Process ids of what makes a node."""
    return [each.process.pid for all_of in node.all_processes.values() for each in all_of]


def main() -> None:
    """Start the head; add nodes as long as somebody asks."""
    head = {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    print(json.dumps({"address": cluster.address, "pids": pids(cluster.head_node)}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"pids": pids(cluster.add_node(num_cpus=1))}), flush=True)


if __name__ == "__main__":
    main()
