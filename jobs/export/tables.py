"""Results as plain tables: CSV and Parquet.

Invariant: each table is a file named by its dimensions; units and meanings of its columns go with it.
"""

from pathlib import Path
from typing import Any

from jobs.export.content import Content


def write_csv(content: Content, folder: Path) -> None:
    """Write each table as ``<name>.csv``, and ``columns.csv`` with the unit and meaning of every column."""
    import pandas as pd

    described = []
    for name, frame in content.tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
        described += [{"table": name, "column": column, **_about(content, column)} for column in frame.columns]
    pd.DataFrame(described).to_csv(folder / "columns.csv", index=False, lineterminator="\n")


def write_parquet(content: Content, folder: Path) -> None:
    """Write each table as ``<name>.parquet``; fields carry ``long_name`` and ``units`` in their metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, frame in content.tables.items():
        table = pa.Table.from_pandas(frame, preserve_index=False)
        fields = [field.with_metadata(_about(content, field.name)) for field in table.schema]
        pq.write_table(table.cast(pa.schema(fields, table.schema.metadata)), folder / f"{name}.parquet")


def _about(content: Content, column: str) -> dict[str, str]:
    results: Any = content.results
    attributes = results[column].attrs if column in results.variables else {}
    return {"units": str(attributes.get("units", "1")), "long_name": str(attributes.get("long_name", column))}
