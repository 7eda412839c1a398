"""Lightning with a plain data loader of torch around the samplers."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from unspool.data import BucketBatchSampler, SequenceDataset, collate
from unspool.training.trainer import quiet_lightning


class Listener(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.epochs = []

    def on_train_epoch_start(self):
        self.epochs.append([])

    def training_step(self, batch, _index):
        self.epochs[-1].append(batch.labels.tolist())
        return self.weight * batch.inputs.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_every_epoch_has_an_order_of_its_own(tmp_path):
    dataset = SequenceDataset([torch.ones(1 + n % 5, 1) for n in range(20)], torch.arange(20), map(str, range(20)))
    sampler = BucketBatchSampler(dataset.lengths, batch_sizes=4, seed=3)
    wanted = [[batch.tolist() for batch in sampler.batches(epoch)] for epoch in range(3)]
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=0)  # pyright: ignore[reportArgumentType]
    listener = Listener()
    quiet: Any = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    with quiet_lightning():
        pl.Trainer(max_epochs=3, accelerator="cpu", default_root_dir=tmp_path, **quiet).fit(listener, loader)
    assert listener.epochs == wanted
    assert wanted[0] != wanted[1] != wanted[2]
