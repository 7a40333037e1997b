"""Every benchmark, a table each as it is done: `make bench`."""

from tests.benchmarks import monitoring, pairs, replicas, shards, training, tune
from tests.benchmarks.table import print_table

for benchmark in (tune, training, replicas, shards, pairs, monitoring):
    print_table(benchmark.rows())
