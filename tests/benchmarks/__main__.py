"""Every benchmark, a table each as it is done: `make bench`."""

from tests.benchmarks import pairs, shards, training, tune
from tests.benchmarks.table import print_table

for benchmark in (tune, training, shards, pairs):
    print_table(benchmark.rows())
