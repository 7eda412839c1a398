"""A summary of the model that names every layer and gives the number of parameters in full."""

from typing import Any

from lightning.pytorch.callbacks import ModelSummary
from rich import get_console
from rich.table import Table
from typing_extensions import override


class LayerSummary(ModelSummary):
    """Print the network's layers, from Lightning's model summary, and the total; metrics are left out."""

    def __init__(self) -> None:
        super().__init__(max_depth=3)

    @staticmethod
    @override
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Print the table; the arguments are Lightning's."""
        columns = dict(summary_data)
        table = Table("layer", "type", title="model")
        table.add_column("parameters", justify="right")
        for name, kind, count in zip(columns["Name"], columns["Type"], columns["Params"], strict=True):
            if name.startswith("model.") and kind != "ModuleList":
                table.add_row(name.removeprefix("model."), kind, count.strip())
        console = get_console()
        console.print(table)
        console.print(f"{total_parameters:,} parameters", highlight=False)
