"""The results of a sweep and the table of its trials, without the libraries that draw.

Invariant: results that this version cannot show are refused here, for the terminal and the report alike.
"""

from jobs.report.table import Results, Table, build_table
from jobs.spec.validation import SpecError
from storage.layout import SweepLayout
from storage.results import read_results
from storage.statistics import VARIABLES


def results_table(layout: SweepLayout) -> Table:
    """The table of all trials; `columns`, `rows` and `notes` hold its words, `trials` the plain values.

    Raises
    ------
    SpecError
        If the sweep has no results yet.
    """
    return build_table(sweep_results(layout))


def sweep_results(layout: SweepLayout) -> Results:
    """Read the results Dataset of a sweep.

    Raises
    ------
    SpecError
        If there is none yet, or it has variables that this version does not know.
    """
    if not layout.results.is_dir():
        raise SpecError(f"{layout.root}: no results here yet; run `ganlab measure {layout.root}` first")
    results = read_results(layout)
    if unknown := sorted({str(name) for name in results.data_vars} - VARIABLES.keys()):
        some = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
        raise SpecError(
            f"{layout.results}: got variables of another version of ganlab ({some}); run `ganlab measure {layout.root}`, "
            "which writes the results again"
        )
    return results
