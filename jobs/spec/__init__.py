"""The sweep file: sections, search space, validation, datasets as sweeps name them."""
