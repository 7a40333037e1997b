"""Lines of a batch script around the supervisor: they record how the job ended, whatever ended it.

Invariant: the record needs neither Python nor a container, so that it names deaths that come before either starts; a job
goes back into the queue from here alone.
"""

import shlex
from pathlib import Path

from cluster.job import DONE, HANDED_OVER, REQUEUE, TERMINATED
from cluster.rendezvous import ClusterFolder

RESTARTS_AFTER_A_KILL = 20  # a job whose supervisor is killed more often has a reason that will not go away
RESTARTS_AFTER_MEMORY = 3  # the same for one that is killed for memory
MEMORY_WORDS = r"oom.?kill|exceed.*memory|out.of.memory"  # as SLURM writes them into a job's log; in any case
CANCELLED_WORDS = r"JOB [^ ]+ ON [^ ]+ CANCELLED AT [^ ]+ \*\*\*"  # the same of a job that somebody cancels
PREEMPTED = "PreemptTime=[0-9]"  # in `scontrol show job`: it has some time to leave, and no line in its log says why
LEFTOVERS = (  # of processes that were killed together with the reaper
    """sed -n 's/^temporary=//p' "$ganlab_run" 2>/dev/null | while IFS= read -r left; do""",
    # By their names alone: a record that a full disk has cut short must not name a folder of others.
    """  case "$left" in */ganlab"$(id -u)"-?*) rm -rf -- "$left";; esac""",
    "done",
    "for left in /dev/shm/sem.mp-*; do",
    """  if [ -O "$left" ] && ! grep -qsE " $(stat -c %i "$left") +[^ ]*/sem[.]" /proc/[0-9]*/maps""",
    """  then rm -f "$left"; fi""",
    "done",
)
REQUEUE_PAUSES_S = (0, 2, 5, 15)  # before each try: slurmctld may be away for a moment


def first_lines(folder: Path, logs: Path, name: str, controller: bool) -> list[str]:
    """Lines before everything else: they record the start, and arrange that the end is recorded and acted upon."""
    files = ClusterFolder(folder)
    over = f"scancel --quiet --state=PENDING --user=$(id -un) --name={shlex.quote(name)}  # of no use any more"
    said = 'tail -c +$((ganlab_from + 1)) "$ganlab_log" 2>/dev/null | grep -E "^(slurmstepd|srun)"'
    by_hand = f"{said} | grep -Eq {shlex.quote(CANCELLED_WORDS)}"
    memory = f"{said} | grep -Eqi {shlex.quote(MEMORY_WORDS)}"
    preempted = f'scontrol show job "$ganlab_job" 2>/dev/null | grep -q {shlex.quote(PREEMPTED)}'
    return [
        "ganlab_job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}",
        f'ganlab_log={shlex.quote(str(logs))}/"${{ganlab_job}}_0_log.out"',
        f'ganlab_run={shlex.quote(str(files.runs))}/"$ganlab_job.${{SLURM_RESTART_COUNT:-0}}"',
        'ganlab_from=$(stat -c %s "$ganlab_log" 2>/dev/null || echo 0)',
        """ganlab_note() { { printf '%s\\n' "$@" >> "$ganlab_run"; } 2>/dev/null; }""",
        "ganlab_end() {",
        "  code=$? again=0",
        "  trap - EXIT",
        '  ganlab_note "ended=$(date +%s)" "code=$code"',
        f"  if [ $code = {TERMINATED} ] && {preempted}; then ganlab_note cause=preempted; fi",
        f"  [ $code = {HANDED_OVER} ] && exit {DONE}",
        f"  [ $code = {REQUEUE} ] && again=1",
        "  if [ $code -gt 128 ]; then",
        *(f"    {line}" for line in LEFTOVERS),
        f"    most={RESTARTS_AFTER_A_KILL}",
        f"    if {memory}; then most={RESTARTS_AFTER_MEMORY}; fi",
        "    [ ${SLURM_RESTART_COUNT:-0} -lt $most ] && again=1",
        f"    if {by_hand}; then again=0; fi",
        "  fi",
        f"  if [ $again = 1 ] && [ ! -e {shlex.quote(str(files.cancelled))} ]; then",
        '    echo "exit code $code: back into the queue"',
        f"    for pause in {' '.join(map(str, REQUEUE_PAUSES_S))}; do",
        "      sleep $pause",
        "      ganlab_note requeue=asked",
        '      said=$(scontrol requeue "$ganlab_job" 2>&1) && exit $code',
        """      ganlab_note "requeue=refused: ${said//$'\\n'/ }\"""",
        f"      [ $code = {TERMINATED} ] && break  # SLURM ends the job, and may have requeued it already",
        "    done",
        *(["  else", f"    {over}"] if controller else []),
        "  fi",
        "  exit $code",
        "}",
        "trap : TERM  # SLURM's: the supervisor hears it too, and its exit code says what to do",
        "trap ganlab_end EXIT",
        'ganlab_note "node=${SLURMD_NODENAME:-$(hostname)}" "began=$(date +%s)" "from=$ganlab_from"',
    ]


def last_lines() -> list[str]:
    """Line after the supervisor: its exit code is the script's."""
    return ["exit $?"]
