"""Read the characters of words (Lample et al., NAACL 2016)."""

from typing import cast

from torch import Tensor, nn

from unspool.layers import GRU


class CharacterReader(nn.Module):
    """Turn the characters of each word into one vector: the last outputs of a GRU in both directions.

    Parameters
    ----------
    alphabet_size : int
        Number of different characters, 0 for padding among them.
    size : int
        Features of a character, and of what one direction returns.
    """

    def __init__(self, alphabet_size: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(alphabet_size, size)
        self.layer = GRU(size, size, batch_first=True, bidirectional=True, return_sequences=False)

    def forward(self, characters: Tensor) -> Tensor:
        """Return the vectors.

        Parameters
        ----------
        characters : Tensor of shape (..., C), int64
            The characters of each word, zeros after them; a word of no characters is padding.

        Returns
        -------
        Tensor of shape (..., 2 * size)
            Zeros for padding.
        """
        words = characters.flatten(0, -2)
        lengths = (words != 0).sum(-1)
        real = lengths > 0
        vectors, _ = cast(tuple[Tensor, Tensor], self.layer(self.embedding(words[real]), lengths=lengths[real]))
        read = vectors.new_zeros(len(words), 2 * self.size).index_put((real,), vectors)
        return read.unflatten(0, characters.shape[:-1])
