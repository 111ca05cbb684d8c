"""A Ray cluster of two nodes with a simulated GPU each, on this machine: prints its address, ends with its input."""

import sys

from ray.cluster_utils import Cluster

if __name__ == "__main__":
    node = {"num_cpus": 2, "num_gpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**{key: value for key, value in node.items() if key != "include_dashboard"})
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()
