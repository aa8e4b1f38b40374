"""Explain: attention, Grad-CAM, feature maps, correlation, precision, ranked lists, charts, the report page."""

from regard.explain.answers import answers
from regard.explain.attention import Attention, attention_of
from regard.explain.camera_pairs import camera_pair_table
from regard.explain.correlation import Correlation, correlate
from regard.explain.embedding_map import EmbeddingMap, embedding_map
from regard.explain.failures import Failure, hardest
from regard.explain.features import feature_maps
from regard.explain.gradcam import attention_layers, class_cam, similarity_cam
from regard.explain.heads import exact_cam, head_heat, pair_heat
from regard.explain.paper_sheet import paper_sheet
from regard.explain.precision import attention_mass, measure_precision
from regard.explain.ranked import RankedList, pick_queries, ranked_lists
from regard.explain.ranked_figure import ranked_figure
from regard.explain.report import Command, Evaluation, HeatMaps, Report, write_report
from regard.explain.report_runs import RunFindings, RunsReport, render_runs, write_runs

__all__ = [
    "Attention",
    "Command",
    "Correlation",
    "EmbeddingMap",
    "Evaluation",
    "Failure",
    "HeatMaps",
    "RankedList",
    "Report",
    "RunFindings",
    "RunsReport",
    "answers",
    "attention_layers",
    "attention_mass",
    "attention_of",
    "camera_pair_table",
    "class_cam",
    "correlate",
    "embedding_map",
    "exact_cam",
    "feature_maps",
    "hardest",
    "head_heat",
    "measure_precision",
    "pair_heat",
    "paper_sheet",
    "pick_queries",
    "ranked_figure",
    "ranked_lists",
    "render_runs",
    "similarity_cam",
    "write_report",
    "write_runs",
]
