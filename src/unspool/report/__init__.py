"""Reports: pages of one file each, with plots that work offline. They need ``pip install 'unspool[train]'``."""

from ._blocks import Facts as Facts
from ._blocks import Figure as Figure
from ._blocks import Folded as Folded
from ._blocks import Note as Note
from ._blocks import Table as Table
from ._blocks import Text as Text
from ._comparison import comparison_figures as comparison_figures
from ._comparison import write_comparison_report as write_comparison_report
from ._comparison_json import read_comparison as read_comparison
from ._curves import recipe_figure as recipe_figure
from ._page import Page as Page
from ._page import Section as Section
from ._page import write_page as write_page
from ._plotly import graph_objects as graph_objects
from ._run import write_run_report as write_run_report
