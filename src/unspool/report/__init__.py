"""Reports: pages of one file each, with plots that work offline. They need ``pip install 'unspool[train]'``."""

from unspool.report._blocks import Facts as Facts
from unspool.report._blocks import Figure as Figure
from unspool.report._blocks import Folded as Folded
from unspool.report._blocks import Note as Note
from unspool.report._blocks import Table as Table
from unspool.report._blocks import Text as Text
from unspool.report._comparison import comparison_figures as comparison_figures
from unspool.report._comparison import comparison_page as comparison_page
from unspool.report._comparison import write_comparison_report as write_comparison_report
from unspool.report._comparison_json import read_comparison as read_comparison
from unspool.report._curves import recipe_figure as recipe_figure
from unspool.report._page import Page as Page
from unspool.report._page import Section as Section
from unspool.report._page import write_page as write_page
from unspool.report._plotly import graph_objects as graph_objects
from unspool.report._run import run_page as run_page
from unspool.report._run import write_run_report as write_run_report
