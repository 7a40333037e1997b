"""The four dashboards, as the questions a person asks, from top to bottom.

Invariant: a panel asks for metrics of `monitoring/metrics.py`, the recording rules, and Ray's and Dask's own alone.
"""

from monitoring.grafana.render import Board, Panel

GLANCE = Board(
    "ganlab-glance", "ganlab 1 · A sweep at a glance",
    "Is all well? If not: what is wrong, and what is to be done? How far is it, and what has it found?",
    {
        "Is all well?": (
            Panel(
                "Alerts", "Is anything wrong? What it is, and what to do about it, stands below.",
                {"firing": 'count(ALERTS{alertname=~"Ganlab.*", alertstate="firing", @}) or vector(0)'},
                kind="stat", width=4, height=4, steps=((1, "red"),),
            ),
            Panel(
                "At work", "Does anybody work on the sweep now, or is it done?",
                {"state": "max(ganlab_sweep_active{@}) + 2 * max(ganlab_sweep_finished{@})"},
                kind="stat", width=4, height=4, alert="GanlabControllerGone",
                words={0: ("nobody, and not done", "red"), 1: ("at work", "blue"), 2: ("done", "green"),
                       3: ("finishing", "green")},
            ),
            Panel(
                "Trained", "What share of all training steps is made?", {"steps": "max(ganlab:train_steps:ratio{@})"},
                unit="percentunit", kind="stat", width=4, height=4,
            ),
            Panel(
                "Measured", "What share of all snapshots has been compared pair by pair?",
                {"snapshots": "max(ganlab:snapshots_measured:ratio{@})"}, unit="percentunit", kind="stat",
                width=4, height=4,
            ),
            Panel(
                "Ends", "When will it end at the present rates; or when did it?",
                {"end": "1000 * max(ganlab_estimated_end_timestamp_seconds{@})"},
                unit="dateTimeFromNow", kind="stat", width=4, height=4, empty="no rate yet",
            ),
            Panel(
                "Failed trials", "How many trials stand as failed? `ganlab status` says which and why.",
                {"failed": 'sum(ganlab_trials{state="failed", @})'},
                kind="stat", width=4, height=4, steps=((1, "orange"),), alert="GanlabTrialFailures",
            ),
        ),
        "What is wrong, and what do I do?": (
            Panel(
                "Firing alerts", "Which alerts are firing? Click on a name for its entry in the runbook.",
                {"": 'ALERTS{alertname=~"Ganlab.*", alertstate="firing", @}'},
                kind="alerts", width=12, height=7, empty="none is firing",
            ),
            Panel(
                "Since each stage last got something done",
                "What stands still? A stage that is not yet begun, or done with, is simply old or missing.",
                {"{{stage}}": "time() - max by (stage) (ganlab_last_success_timestamp_seconds{@})"},
                unit="s", kind="bars", width=12, height=7,
                alert="GanlabNoProgress",
            ),
        ),
        "How far is it?": (
            Panel(
                "Trials by state", "Do trials end well, and do the others get their turn?",
                {"{{state}}": "sum by (state) (ganlab:trials:sum{@})"}, kind="stack", alert="GanlabTrialFailures",
            ),
            Panel(
                "Pace", "Is it as fast as before?",
                {"training steps": "sum(ganlab:train_steps:rate5m{@})",
                 "images shown": "sum(ganlab:train_images:rate5m{@})"},
                unit="ops", alert="GanlabNoProgress",
            ),
        ),
        "What has it found so far?": (
            Panel(
                "Effective number",
                "How often do the models repeat images? So many equally likely ones (order 2) would: least and median.",
                {"least": 'min(ganlab_support_size{quantile="0", @})',
                 "median": 'max(ganlab_support_size{quantile="0.5", @})'},
                kind="stat", width=8, height=5, empty="nothing measured yet",
            ),
            Panel(
                "Collapsed trials", "In how many are duplicates over 100 times as frequent as among the real images?",
                {"collapsed": "sum(ganlab_trials_collapsed{@})"},
                kind="stat", width=4, height=5, steps=((1, "orange"),), alert="GanlabCollapse",
            ),
            Panel(
                "Duplicates", "How many near-duplicate pairs were found among the samples?",
                {"pairs": "sum(ganlab_duplicates{@})"}, kind="stat", width=4, height=5,
            ),
            Panel(
                "Pairs compared", "How many pairs of samples are compared, and how many are to come?",
                {"{{state}}": "sum by (state) (ganlab_pairs{@})"}, kind="stat", width=4, height=5,
            ),
            Panel(
                "Verdicts missing", "How many flagged pairs has nobody looked at? `ganlab review` shows them.",
                {"missing": 'sum(ganlab_verdicts{state="missing", @})'}, kind="stat", width=4, height=5,
            ),
        ),
    },
)  # fmt: skip

TRAINING = Board(
    "ganlab-training", "ganlab 2 · Training", "Do the trials train, how fast, and what ends them?",
    {
        "Do they train?": (
            Panel(
                "Trials by state and family", "Which kind of model is behind?",
                {"{{family}}: {{state}}": "sum by (family, state) (ganlab_trials{@}) > 0"}, kind="stack",
            ),
            Panel(
                "Steps per second by family", "How fast does each kind of model train, as its trials report it?",
                {"{{family}}": "sum by (family) (ganlab_train_steps_per_second{@})"}, unit="ops",
                alert="GanlabNoProgress",
            ),
        ),
        "How do the losses look?": (
            Panel(
                "Generator loss", "Do the running trials' losses stay where they were: the least, median and largest?",
                {"{{family}} largest": 'max by (family) (ganlab_loss{network="generator", quantile="1", @})',
                 "{{family}} median": 'max by (family) (ganlab_loss{network="generator", quantile="0.5", @})',
                 "{{family}} least": 'max by (family) (ganlab_loss{network="generator", quantile="0", @})'},
                empty="nothing is training now", alert="GanlabNanStorm",
            ),
            Panel(
                "Discriminator loss",
                "The same of the discriminators: near 0, they have won and the generators learn nothing.",
                {"{{family}} largest": 'max by (family) (ganlab_loss{network="discriminator", quantile="1", @})',
                 "{{family}} median": 'max by (family) (ganlab_loss{network="discriminator", quantile="0.5", @})',
                 "{{family}} least": 'max by (family) (ganlab_loss{network="discriminator", quantile="0", @})'},
                empty="nothing is training now", alert="GanlabNanStorm",
            ),
        ),
        "What ends them?": (
            Panel(
                "Failed trials by cause", "Why do trials fail for good?",
                {"{{cause}}": "sum by (cause) (ganlab_trials_failed{@})"}, kind="bars", width=8,
                steps=((1, "red"),), alert="GanlabTrialFailures",
            ),
            Panel(
                "Attempts by how they ended", "Are trials interrupted, or do they die?",
                {"{{end}}": "sum by (end) (ganlab_attempts_total{@})"}, kind="bars", width=8, alert="GanlabRetryStorm",
            ),
            Panel(
                "Started again, by cause", "What makes work be done again?",
                {"{{cause}}": "sum by (cause) (ganlab_retries_total{@})"}, kind="bars", width=8,
                alert="GanlabRetryStorm",
            ),
            Panel(
                "Attempts lost in an hour", "How many attempts died or raised an error within the last hour?",
                {"lost": "sum(ganlab:attempts_lost:increase1h{@})"}, kind="series", width=8, alert="GanlabRetryStorm",
            ),
            Panel(
                "Failed share of the ended trials", "Is it one bad trial, or a bad sweep?",
                {"failed": "max(ganlab:trials_failed:ratio{@})"}, unit="percentunit", width=8,
                alert="GanlabTrialFailures",
            ),
            Panel(
                "Oldest checkpoint of a running trial", "How much work would a kill cost at most?",
                {"age": "time() - min(ganlab_checkpoint_oldest_timestamp_seconds{@})"}, unit="s", width=8,
                alert="GanlabCheckpointOld", empty="nothing is training now",
            ),
        ),
    },
)  # fmt: skip

SAMPLES = Board(
    "ganlab-samples", "ganlab 3 · Samples and pairs",
    "Do images reach the disk, will it hold them, and what do they say?",
    {
        "Do images reach the disk?": (
            Panel(
                "Shards by state", "How many files of samples are there, and how many are to come?",
                {"{{state}}": "sum by (state) (ganlab_shards{@})"}, kind="stack", width=8,
            ),
            Panel(
                "Written per second", "How fast do samples reach the disk?",
                {"bytes": "sum(ganlab:sample_bytes:deriv5m{@})"}, unit="Bps", width=8,
            ),
            Panel(
                "Attempts ended by the disk", "Could anything not be written?",
                {"failures": "sum(ganlab_shard_write_failures_total{@})"}, kind="stat", width=4,
                steps=((1, "red"),), alert="GanlabDiskFilling",
            ),
            Panel(
                "Damaged shards", "Is a committed file missing or cut short?",
                {"damaged": 'sum(ganlab_shards{state="damaged", @})'}, kind="stat", width=4,
                steps=((1, "red"),), alert="GanlabFiguresDoubtful",
            ),
        ),
        "Will the disk hold them?": (
            Panel(
                "Free against still to write", "Is there room for what is to come?",
                {"free": "min(ganlab_filesystem_free_bytes{@})",
                 "to write": 'sum(ganlab_sample_bytes{state="to_write", @})',
                 "committed": 'sum(ganlab_sample_bytes{state="committed", @})'},
                unit="bytes", alert="GanlabDiskFilling",
            ),
            Panel(
                "Disk in use", "How full is the whole file system?",
                {"used": "1 - min(ganlab_filesystem_free_bytes{@} / ganlab_filesystem_size_bytes{@})"},
                unit="percentunit", alert="GanlabDiskFilling",
            ),
        ),
        "Are the pairs compared?": (
            Panel(
                "Snapshots by state", "How many wait for their pairs to be compared?",
                {"{{state}}": "sum by (state) (ganlab_snapshots{@})"}, kind="stack", width=8,
            ),
            Panel(
                "Pairs per second", "How fast are pairs compared, by the work's own word and over five minutes?",
                {"now": "sum(ganlab_pairs_per_second{@})", "over 5 min": "sum(ganlab:pairs_compared:rate5m{@})"},
                unit="ops", width=8, alert="GanlabNoProgress",
            ),
            Panel(
                "Tiles left", "How much is left of the comparison under way?", {"tiles": "sum(ganlab_tiles_left{@})"},
                width=8,
            ),
        ),
        "What do they say?": (
            Panel(
                "Effective number over trials", "How do the trials differ? (order 2; least, quartiles, most)",
                {"{{quantile}}": "max by (quantile) (ganlab_support_size{@})"}, width=8, empty="nothing measured yet",
            ),
            Panel(
                "Collapsed trials by family", "Which kind of model collapses?",
                {"{{family}}": "sum by (family) (ganlab_trials_collapsed{@})"}, kind="bars", width=8,
                steps=((1, "orange"),), alert="GanlabCollapse",
            ),
            Panel(
                "Copying trials by family", "Which kind of model copies its training images?",
                {"{{family}}": "sum by (family) (ganlab_trials_copying{@})"}, kind="bars", width=8,
                steps=((1, "orange"),), alert="GanlabCopying",
            ),
            Panel(
                "Flagged pairs by verdict", "Has anybody looked at what the machine calls duplicates?",
                {"{{state}}": "sum by (state) (ganlab_verdicts{@})"}, kind="bars", width=8,
            ),
        ),
    },
)  # fmt: skip

CLUSTER = Board(
    "ganlab-cluster", "ganlab 4 · Cluster", "Are the nodes there, do they work, and can these figures be believed?",
    {
        "Are the nodes there?": (
            Panel(
                "Workers by state", "Do the worker jobs join and stay?",
                {"{{state}}": "sum by (state) (ganlab_workers{@})"}, kind="stack", width=8, alert="GanlabWorkerLoss",
            ),
            Panel(
                "SLURM jobs by state", "Are jobs of this sweep still in the queue?",
                {"{{state}}": "sum by (state) (ganlab_slurm_jobs{@})"}, kind="stack", width=8, alert="GanlabQueueWait",
            ),
            Panel(
                "Longest wait in the queue", "How long has the job that waits longest been waiting?",
                {"wait": "max(ganlab_queue_wait_seconds{@})"}, unit="s", width=8, alert="GanlabQueueWait",
            ),
            Panel(
                "Deaths of jobs", "What ends jobs that nobody had ended?",
                {"{{cause}}": "sum by (cause) (ganlab_job_deaths_total{@})"}, kind="stack", width=16,
                alert="GanlabJobsDie",
            ),
            Panel(
                "Nodes left out", "On how many nodes did a worker fail by itself?",
                {"nodes": "max(ganlab_nodes_left_out{@})"}, kind="stat", width=8, alert="GanlabJobsDie",
            ),
        ),
        "Do they work?": (
            Panel(
                "GPUs", "Are the GPUs that the sweep holds busy?",
                {"held": "sum(ganlab_gpus{@})", "busy": "sum(ganlab_gpus_busy{@})"}, width=8, alert="GanlabGpusIdle",
            ),
            Panel(
                "Busy share of the GPUs", "How much of the GPU time is used?",
                {"busy": "max(ganlab:gpus_busy:ratio{@})"}, unit="percentunit", kind="stat", width=4,
                alert="GanlabGpusIdle",
            ),
            Panel(
                "GPU memory in use by node", "Is there room for more trials on a GPU, or is one about to run out?",
                {"{{node}} in use": "sum by (node) (ganlab_gpu_memory_used_bytes{@})",
                 "{{node}} in all": "sum by (node) (ganlab_gpu_memory_bytes{@})"}, unit="bytes",
            ),
            Panel(
                "CPU by node", "Are the CPUs the bottleneck? (Ray's own figure)",
                {"{{node}}": "max by (node) (ray_node_cpu_utilization{@})"}, unit="percent", width=8,
            ),
            Panel(
                "Memory by node", "Is a node about to run out of memory? (Ray's own figure)",
                {"{{node}}": "max by (node) (ray_node_mem_used{@} / ray_node_mem_total{@})"},
                unit="percentunit", width=8,
            ),
            Panel(
                "Dask", "How many workers compare pairs, and how many tasks are there?",
                {"workers": "sum(dask_scheduler_workers{@})", "tasks": "sum(dask_scheduler_tasks{@})"}, width=8,
            ),
        ),
        "Can these figures be believed?": (
            Panel(
                "Endpoints that answer", "Does everything that Prometheus is to scrape answer?",
                {"{{job}} answer": "sum by (job) (up{@})", "{{job}} in all": "count by (job) (up{@})"}, width=8,
                alert="GanlabControllerGone",
            ),
            Panel(
                "Problems with the folder", "What can't be read, is gone, or comes from the future?",
                {"{{kind}}": "sum by (kind) (ganlab_exporter_problems{@})"}, kind="bars", width=8,
                steps=((1, "red"),), alert="GanlabFiguresDoubtful",
            ),
            Panel(
                "Age of the figures",
                "How long ago did the exporter last look at the folder, and how long did it take?",
                {"age": "time() - max(ganlab_exporter_looked_timestamp_seconds{@})",
                 "look took": "max(ganlab_exporter_look_seconds{@})"}, unit="s", width=8, alert="GanlabFiguresDoubtful",
            ),
            Panel(
                "Clocks", "Did the exporter's clock jump, and does it agree with the file system's?",
                {"jumps": "sum(ganlab_exporter_clock_jumps_total{@})",
                 "offset (s)": "max(ganlab_exporter_clock_offset_seconds{@})"}, width=8, alert="GanlabClockJumped",
            ),
            Panel(
                "The exporter's own share of a CPU", "What does watching cost?",
                {"CPU": 'sum(rate(process_cpu_seconds_total{job="ganlab", @}[5m]))'}, unit="percentunit", width=8,
            ),
            Panel(
                "Version", "Which version of ganlab is at work?",
                {"{{version}} on Python {{python}}": "ganlab_build_info{@}"}, kind="name", width=8,
            ),
        ),
    },
)  # fmt: skip

BOARDS = (GLANCE, TRAINING, SAMPLES, CLUSTER)
