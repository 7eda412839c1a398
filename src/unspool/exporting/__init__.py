"""Models as ONNX files: whole sequences, or one step that carries its state. It needs the extra `onnx`."""

from unspool.exporting._export import export_onnx as export_onnx
from unspool.exporting._file import OnnxFile as OnnxFile
