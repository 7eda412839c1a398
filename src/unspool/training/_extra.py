"""What training needs, asked for before any of it is imported."""

from importlib.util import find_spec

for _package in ("lightning", "torchmetrics", "rich"):
    if find_spec(_package) is None:
        raise ModuleNotFoundError(
            f"training needs {_package}, which is not installed.\nInstall it with: pip install 'unspool[train]'",
            name=_package,
        )
