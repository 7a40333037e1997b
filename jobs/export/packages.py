"""Tables with machine-readable metadata, to be published: Croissant and RO-Crate.

Invariant: the metadata names every table, column and unit, and the hash of every file.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from jobs.export.content import Content
from jobs.export.tables import write_csv

DESCRIPTION = "Diversity of the images of generative models: duplicates among all pairs of samples, measured by ganlab."


def write_croissant(content: Content, folder: Path) -> None:
    """Write the tables as CSV with ``croissant.json`` (MLCommons Croissant 1.0)."""
    import mlcroissant as mlc

    write_csv(content, folder)
    files = [
        mlc.FileObject(
            id=f"{name}.csv",
            name=f"{name}.csv",
            content_url=f"{name}.csv",
            sha256=hashlib.sha256((folder / f"{name}.csv").read_bytes()).hexdigest(),
            encoding_formats=["text/csv"],
        )
        for name in content.tables
    ]
    sets = [
        mlc.RecordSet(id=name, name=name, fields=[_field(name, column, frame[column], content) for column in frame])
        for name, frame in content.tables.items()
    ]
    metadata = mlc.Metadata(name=content.title, description=DESCRIPTION, distribution=files, record_sets=sets)
    (folder / "croissant.json").write_text(json.dumps(metadata.to_json(), indent=2, default=str), encoding="utf-8")


def _field(table: str, column: Any, values: Any, content: Content) -> Any:
    import mlcroissant as mlc

    kinds = {"f": mlc.DataType.FLOAT, "i": mlc.DataType.INTEGER, "b": mlc.DataType.BOOL}
    attributes = content.results[column].attrs if column in content.results.variables else {}
    source = mlc.Source(file_object=f"{table}.csv", extract=mlc.Extract(column=column))
    return mlc.Field(
        id=f"{table}/{column}",
        name=str(column),
        description=str(attributes.get("long_name", column)),
        data_types=[kinds.get(values.dtype.kind, mlc.DataType.TEXT)],
        source=source,
    )


def write_ro_crate(content: Content, folder: Path) -> None:
    """Write the tables as CSV in an RO-Crate, with the sweep file."""
    from rocrate.rocrate import ROCrate

    write_csv(content, folder)
    crate = ROCrate()
    crate.name, crate.description = content.title, DESCRIPTION
    for file in sorted(folder.glob("*.csv")):
        crate.add_file(file, file.name, properties={"encodingFormat": "text/csv", "name": file.stem})
    if content.layout.spec.is_file():
        crate.add_file(content.layout.spec, "sweep.yaml", properties={"encodingFormat": "application/yaml"})
    crate.write(folder)
