"""Every benchmark in one table: `make bench`."""

from tests.benchmarks import pairs, shards, training, tune
from tests.benchmarks.table import print_table

print_table([*training.rows(), *tune.rows(), *shards.rows(), *pairs.rows()])
